// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem
import Synchronization

extension BtrfsPool {
    package func bases() async throws -> [BaseName] {
        try await blocking { [self] in try poolOperation("list bases") { try baseNames() } }
    }

    package func baseDescriptions() async throws -> [(name: BaseName, description: [UInt8])] {
        try await blocking { [self] in
            try poolOperation("list bases") {
                try baseNames().map { name in (name, Array(((try? readSmallFile(descriptionPath(name))) ?? "").utf8)) }
            }
        }
    }

    package func baseDescription(_ name: BaseName) async throws -> [UInt8]? {
        // One small file, in the page cache after the first sprite.
        (try? readSmallFile(descriptionPath(name))).map { Array($0.utf8) }
    }

    package func importBase(
        _ name: BaseName, replacing: Bool, fill: @escaping @Sendable (BaseWorkspace) throws -> [UInt8]
    ) async throws {
        try await blocking { [self] in
            try poolOperation("import base \(name)") {
                if !replacing { try refuseExistingBase(name) }
                let bases = try openDirectory("\(path)/bases")
                let temporary = ".new-\(SpriteID.random())"
                let folder = "\(path)/bases/\(temporary)"
                let subvolume = try withPoolLock {
                    try Btrfs.createSubvolume(in: bases, temporary)
                    let subvolume = try openDirectory(folder)
                    try lock(subvolume, folder, seconds: 1)
                    return subvolume
                }
                do {
                    let description = try fill(BaseWorkspace(path: folder, lock: subvolume.number))
                    FaultPoint.baseFilled.reached()
                    try withPoolLock {
                        if !replacing { try refuseExistingBase(name) }
                        try install(name, folder, subvolume, description)
                    }
                } catch {
                    try? Btrfs.delete(in: bases, temporary)
                    throw error
                }
            }
        }
    }

    package func removeBase(_ name: BaseName) async throws {
        try await blocking { [self] in
            try poolOperation("remove base \(name)") {
                guard access(basePath(name), F_OK) == 0 else {
                    throw SpriteError(.notFound, "cannot remove base \(name): there is none of this name")
                }
                mounts.withLock { mounts in
                    mounts.open[name] = nil
                    detach("\(runDirectory)/bases/\(name)")
                }
                try Btrfs.delete(in: openDirectory("\(path)/bases"), name.rawValue)
                unlink(descriptionPath(name))
            }
        }
    }

    // MARK: Parts

    private func descriptionPath(_ name: BaseName) -> String { "\(path)/descriptions/\(name).json" }

    private func refuseExistingBase(_ name: BaseName) throws {
        guard access(basePath(name), F_OK) == 0 else { return }
        throw SpriteError(
            .alreadyExists, "cannot import base \(name): there is one of this name; remove or replace it")
    }

    private func baseNames() throws -> [BaseName] {
        try directoryNames("\(path)/bases").compactMap { try? BaseName($0) }.sorted { $0.rawValue < $1.rawValue }
    }

    private func install(
        _ name: BaseName, _ folder: String, _ subvolume: Descriptor, _ description: [UInt8]
    ) throws {
        let highest = try nextInode(folder)
        if highest > reservedInodes {
            // Room for the next version of this base as well.
            try ensureTemplate(inodes: highest + highest / 2)
        }
        let text = String(decoding: description, as: UTF8.self)
        let described = "\(path)/descriptions/.\(SpriteID.random()).new"
        try writeSmallFile(described, text, flags: O_WRONLY | O_CREAT | O_TRUNC)
        try Btrfs.setReadOnly(subvolume)
        FaultPoint.baseDescribed.reached()
        if access(basePath(name), F_OK) == 0 {
            try checked(clinux_exchange(folder, basePath(name)), "replace base \(name)")
            // Sprites that run show it; after the next boot none does.
            let retired = "\(path)/bases/\(Self.retiredPrefix)\(try bootIdentifier())-\(SpriteID.random())"
            try renamePath(folder, retired)
        } else {
            try renamePath(folder, basePath(name))
        }
        FaultPoint.baseInstalled.reached()
        try renamePath(described, descriptionPath(name))
        try Btrfs.commit(root)
    }

    private static let retiredPrefix = ".retired-"

    private func bootIdentifier() throws -> String {
        String(try readSmallFile("/proc/sys/kernel/random/boot_id").prefix(8))
    }

    /// Deletes bases whose import nobody works on any more, and replaced ones that nobody can show any more.
    func cleanUnfinishedBases() throws {
        let folder = "\(path)/bases"
        let bases = try openDirectory(folder)
        let boot = try bootIdentifier()
        for name in try directoryNames(folder) {
            if name.hasPrefix(Self.retiredPrefix), !name.hasPrefix("\(Self.retiredPrefix)\(boot)-") {
                try Btrfs.delete(in: bases, name)
            }
            guard name.hasPrefix(".new-"), let subvolume = try openDirectoryIfExists("\(folder)/\(name)"),
                flock(subvolume.number, LOCK_EX | LOCK_NB) == 0
            else { continue }
            try Btrfs.delete(in: bases, name)
        }
    }
}
