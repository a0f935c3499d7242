// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

// A path is brought back in three steps:
//   1. a copy is built in /.sprite-restore-<id>, which belongs to a user the sprite does not have, so nothing inside can
//      look or reach into it
//   2. copy and original change places in one rename
//   3. the folder goes, with what was replaced
// All of it goes through the sprite's own overlay, as if a process inside did it. Only contents do not: the new, empty
// file is opened below the overlay as well, to share its blocks with the checkpoint's, since the kernel does not let
// files of two mounts do that.
extension BtrfsPool {
    package func restorePath(
        _ path: [UInt8], of sprite: SpriteID, base: BaseName, layer: String?, from checkpoint: CheckpointID,
        processID: Int32, removesAbsent: Bool
    ) async throws -> RestoredPath {
        try await blocking { [self] in
            try poolOperation("restore \(shown(path))") {
                guard path != [0x2F] else {
                    throw SpriteError(
                        .invalidRequest, "cannot restore the path /: restore the whole checkpoint instead")
                }
                let snapshot = try openSource(.checkpoint(sprite, checkpoint))
                let state = try TreeState(
                    view: Descriptor(owning: openView(snapshot, base, middle: layer)), subvolume: snapshot)
                let root = try Descriptor.open("/proc/\(processID)/root", O_RDONLY | O_DIRECTORY)
                try refuseMounts(path, processID)
                let target = try RestoreTarget(path, root)
                let isThere = try state.inspect(path) != nil
                guard isThere || removesAbsent else {
                    throw SpriteError(
                        .notFound,
                        "cannot restore \(shown(path)): checkpoint \(checkpoint) has no such path, without symbolic "
                            + "links on the way to it")
                }
                removeStaging(root)
                let staging = try makeStaging(root, sprite)
                defer { removeStaging(root) }
                guard isThere else {
                    try target.takeAway(to: staging.view)
                    return RestoredPath(files: 0, bytes: 0, copiedBytes: 0)
                }
                let layers = [
                    try openLayer(snapshot, "upper"), try shiftedBase(base),
                ]
                var copy = TreeCopy(state: state, layers: layers, top: staging.view)
                try copy.build(path, from: target.firstMissing, in: staging)
                try target.exchange(with: staging.view)
                return copy.result
            }
        }
    }

    package func cleanRestoredPaths(_ sprite: SpriteID, processID: Int32?) async throws {
        try await blocking { [self] in
            try poolOperation("clean up after a restore") {
                if let processID {
                    removeStaging(try Descriptor.open("/proc/\(processID)/root", O_RDONLY | O_DIRECTORY))
                } else {
                    // No overlay shows it now.
                    removeStaging(try openLayer(openLive(sprite), "upper"))
                }
            }
        }
    }

    private func openLayer(_ subvolume: Descriptor, _ name: String) throws -> Descriptor {
        Descriptor(
            owning: try checked(
                clinux_open_beneath(subvolume.number, name, O_RDONLY | O_DIRECTORY, 0, 1), "open \(name) of a disk"))
    }

    /// What is mounted would move away with the directory it is mounted in.
    private func refuseMounts(_ path: [UInt8], _ processID: Int32) throws {
        for line in try readSmallFile("/proc/\(processID)/mountinfo").split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 4 else { continue }
            let point = mountPoint(fields[4])
            guard point != [0x2F] else { continue }
            if isBelow(path, point) || path == point || isBelow(point, path) {
                throw SpriteError(
                    .conflict,
                    "cannot restore \(shown(path)): \(shown(point)) is mounted from elsewhere; restore paths that "
                        + "neither lie in it nor contain it, or the whole disk")
            }
        }
    }

    /// What a field of mountinfo names: space, tab, line feed and backslash stand there as `\\ooo`; proc(5).
    private func mountPoint(_ field: Substring) -> [UInt8] {
        var result: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            guard byte == 0x5C, digits.count == 3, digits.allSatisfy({ (0x30...0x37).contains($0) }) else {
                result.append(byte)
                continue
            }
            result.append(UInt8(truncatingIfNeeded: digits.reduce(0) { Int($0) * 8 + Int($1 - 0x30) }))
            rest = rest.dropFirst(3)
        }
        return result
    }

    // MARK: Staging

    private static let stagingPrefix = Array(".sprite-restore-".utf8)

    private func makeStaging(_ root: Descriptor, _ sprite: SpriteID) throws -> StagedDirectory {
        let name = Self.stagingPrefix + Array("\(SpriteID.random())".utf8)
        try system("make \(shown(name))") { withPath(name) { mkdirat(root.number, $0, 0o700) } }
        do {
            let view = try open(name, in: root)
            let below = try open(name, in: openLayer(openLive(sprite), "upper"))
            // Whoever is inside may put another folder in its place, but has none of this user.
            for (folder, what) in [(view, "in the sprite"), (below, "below the overlay")] {
                var facts = stat()
                try system("inspect \(shown(name))") { fstat(folder.number, &facts) }
                guard facts.st_uid == 0 else { throw SystemError(ESTALE, "find \(shown(name)) \(what)") }
            }
            return StagedDirectory(view: view, below: below)
        } catch {
            _ = withPath(name) { unlinkat(root.number, $0, AT_REMOVEDIR) }
            throw error
        }
    }

    private func open(_ name: [UInt8], in directory: Descriptor) throws -> Descriptor {
        Descriptor(
            owning: try checked(
                withPath(name) { clinux_open_beneath(directory.number, $0, O_RDONLY | O_DIRECTORY, 0, 1) },
                "open \(shown(name))"))
    }

    /// Only folders of a user that the sprite does not have can be ours. What stays is tried again the next time.
    private func removeStaging(_ root: Descriptor) {
        for name in (try? sortedNames(in: root)) ?? [] where name.starts(with: Self.stagingPrefix) {
            var facts = clinux_entry()
            guard withPath(name, { clinux_inspect(root.number, $0, &facts) }) == 0, facts.uid == 0 else { continue }
            do {
                try TreeRemoval(top: open(name, in: root)).run()
                try system("remove \(shown(name))") { withPath(name) { unlinkat(root.number, $0, AT_REMOVEDIR) } }
            } catch {
                logger.warning("replaced files not removed", metadata: ["error": "\(error)"])
            }
        }
    }
}

func shown(_ path: [UInt8]) -> String { String(decoding: path.prefix(512), as: UTF8.self) }

/// A directory as the sprite's overlay has it, and the same one in the layer of changes.
struct StagedDirectory {
    var view: Descriptor
    var below: Descriptor
}

/// The place in the running sprite that something is put at.
private struct RestoreTarget {
    private let path: [UInt8]
    private let parent: Descriptor
    private let name: [UInt8]
    /// How many parts of the path are there already; the directories after them come back as well.
    let firstMissing: Int

    init(_ path: [UInt8], _ root: Descriptor) throws {
        self.path = path
        let parts = path.split(separator: 0x2F).map(Array.init)
        var count = parts.count - 1
        while true {
            let directory = Array(parts[..<count].joined(separator: [0x2F]))
            let result = withPath(directory.isEmpty ? [0x2E] : directory) {
                clinux_open_beneath(root.number, $0, O_RDONLY | O_DIRECTORY, 0, 1)
            }
            if result >= 0 {
                parent = Descriptor(owning: result)
                name = parts[count]
                firstMissing = count
                return
            }
            guard result == -ENOENT, count > 0 else {
                throw SpriteError(
                    .conflict,
                    "cannot restore \(shown(path)): /\(shown(directory)) is not a directory of the sprite's disk now, "
                        + "or a symbolic link leads to it; restore that first, or name the path it leads to")
            }
            count -= 1
        }
    }

    /// Others may make or remove the name at the same time.
    func exchange(with staging: Descriptor) throws {
        for _ in 0..<16 {
            let exchanged = withPath(name) { clinux_rename(staging.number, "new", parent.number, $0, 2) }
            if exchanged != -ENOENT {
                try checked(exchanged, "exchange \(shown(path))")
                return
            }
            let moved = withPath(name) { clinux_rename(staging.number, "new", parent.number, $0, 1) }
            if moved != -EEXIST {
                try checked(moved, "put \(shown(path)) in its place")
                return
            }
        }
        throw SpriteError(
            .conflict, "cannot restore \(shown(path)): something in the sprite makes and removes it all the time")
    }

    func takeAway(to staging: Descriptor) throws {
        let result = withPath(name) { clinux_rename(parent.number, $0, staging.number, "old", 1) }
        if result == -ENOENT { return }
        try checked(result, "take \(shown(path)) away")
    }
}

/// Deletes what lies in a directory, however deep, without following links or leaving it.
private struct TreeRemoval {
    let top: Descriptor
    private static let depthMax = 200

    func run() throws {
        // What lies too deep is moved up and comes with the next round; who still works in there may add more.
        for _ in 0..<10_000 {
            let names = try sortedNames(in: top)
            if names.isEmpty { return }
            for name in names { try remove(name, in: top, depth: 0) }
        }
        throw SystemError(EBUSY, "remove replaced files")
    }

    private func remove(_ name: [UInt8], in directory: Descriptor, depth: Int) throws {
        if withPath(name, { unlinkat(directory.number, $0, 0) }) == 0 || errno == ENOENT { return }
        guard errno == EISDIR || errno == EPERM else { throw SystemError(errno, "remove a replaced file") }
        if depth >= Self.depthMax {
            let moved = Array("deep-\(SpriteID.random())".utf8)
            try checked(
                withPath(name) { from in
                    withPath(moved) { clinux_rename(directory.number, from, top.number, $0, 1) }
                }, "move a replaced directory")
            return
        }
        let opened = withPath(name) { clinux_open_beneath(directory.number, $0, O_RDONLY | O_DIRECTORY, 0, 1) }
        if opened == -ENOENT { return }
        let inner = Descriptor(owning: try checked(opened, "open a replaced directory"))
        for name in try sortedNames(in: inner) { try remove(name, in: inner, depth: depth + 1) }
        if withPath(name, { unlinkat(directory.number, $0, AT_REMOVEDIR) }) != 0, errno != ENOENT, errno != ENOTEMPTY {
            throw SystemError(errno, "remove a replaced directory")
        }
    }
}
