// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteDomain
import SpriteStorage
import SpriteSystem

/// What this host lets tests do.
enum Host {
    static let hasPool =
        geteuid() == 0 && findProgram("mkfs.btrfs") != nil && access("/dev/loop-control", F_OK) == 0
        && ((try? readSmallFile("/proc/filesystems"))?.contains("btrfs") ?? false)
}

/// A pool in an image of its own, gone when `body` ends.
func withPool(bytes: UInt64 = 1 << 30, _ body: (BtrfsPool, PoolFixture) async throws -> Void) async throws {
    let fixture = try PoolFixture(bytes: bytes)
    do {
        let pool = try await fixture.open()
        do {
            try await body(pool, fixture)
        } catch {
            await pool.close()
            throw error
        }
        await pool.close()
    } catch {
        fixture.remove()
        throw error
    }
    fixture.remove()
}

struct PoolFixture {
    let folder: String
    let data: String
    let run: String
    let bytes: UInt64

    init(bytes: UInt64) throws {
        self.bytes = bytes
        // A comma and a colon, which have a meaning in mount options.
        folder = "/tmp/sprite-storage-\(SpriteID.random())"
        data = "\(folder)/data,with:signs"
        run = "\(folder)/run"
        for path in [folder, data, run] { try system("make \(path)") { mkdir(path, 0o711) } }
    }

    func open() async throws -> BtrfsPool {
        var logger = Logger(label: "test")
        logger.logLevel = .error
        return try await BtrfsPool.open(
            dataDirectory: data, runDirectory: run, imageBytes: bytes, reservedInodes: 2000, logger: logger)
    }

    func remove() {
        _ = try? runTool("rm", ["-rf", "--one-file-system", folder])
    }

    /// A base with a few files.
    func importBase(_ pool: BtrfsPool, _ name: String = "small", replacing: Bool = false) async throws -> BaseName {
        let base = try BaseName(name)
        try await pool.importBase(base, replacing: replacing) { workspace in
            for folder in ["bin", "etc", "home"] {
                try system("mkdir") { mkdir("\(workspace.path)/\(folder)", 0o755) }
            }
            try writeText("\(workspace.path)/etc/name", name)
            return Array("{\"name\":\"\(name)\"}".utf8)
        }
        return base
    }
}

extension BtrfsPool {
    func createDisk(_ sprite: SpriteID, from source: DiskSource = .empty) async throws {
        try await createDisk(sprite, from: source, limit: nil)
    }

    /// The sprite's files as a checkpoint sees them.
    func upper(_ sprite: SpriteID, _ checkpoint: String? = nil) -> String {
        "\(path)/sprites/\(sprite)/\(checkpoint.map { "checkpoints/\($0)" } ?? "live")/upper"
    }
}

func writeText(_ path: String, _ text: String) throws {
    try writeSmallFile(path, text, flags: O_WRONLY | O_CREAT | O_TRUNC)
}

func readText(_ path: String) -> String? { try? readSmallFile(path) }

func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// Writes that many bytes that do not compress, or until the disk is full; returns how many there were room for.
@discardableResult
func writeBytes(_ path: String, _ count: Int) throws -> Int {
    let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    var block = [UInt64](repeating: 0, count: 1 << 17)
    for index in block.indices { block[index] = UInt64.random(in: .min ... .max) }
    var written = 0
    while written < count {
        let part = block.withUnsafeBytes { write(file.number, $0.baseAddress, min($0.count, count - written)) }
        if part < 0, errno == ENOSPC { break }
        guard part > 0 else { throw SystemError(errno, "write \(path)") }
        written += part
    }
    return written
}
