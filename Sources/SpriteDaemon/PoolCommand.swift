// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Logging
import SpriteDomain
import SpriteStorage

/// `sprited pool`: how much room sprites have, and more of it.
struct PoolCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pool", abstract: "Look at the space of all disks, and grow it.",
        subcommands: [Info.self, Grow.self])

    struct Info: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how much the pool holds and still takes; the daemon may run.")

        @OptionGroup var data: DataOptions

        @Flag(help: "Print sizes in bytes.")
        var bytes = false

        func run() async throws {
            let facts = try await withPool(data) { try await $0.facts() }
            var lines = [("pool", facts.path), ("kind", facts.image == nil ? "folder on btrfs" : "image file")]
            lines.append(("size", size(facts.space.totalBytes)))
            lines.append(("available", size(facts.space.availableBytes)))
            if let image = facts.image {
                lines.append(("image", "\(size(image.allocatedBytes)) taken of at most \(size(image.bytes))"))
            }
            if let free = facts.hostFreeBytes { lines.append(("free below the image", size(free))) }
            lines.append(("disk limits", facts.countsDisks ? "on" : "off, until a sprite has one"))
            if facts.deletedCount > 0 { lines.append(("being deleted", "\(facts.deletedCount) disks and checkpoints")) }
            let width = lines.map(\.0.count).max() ?? 0
            for (name, value) in lines {
                say("\(name):" + String(repeating: " ", count: width - name.count + 2) + value)
            }
        }

        private func size(_ count: UInt64) -> String {
            if bytes { return "\(count)" }
            return count < 10 << 30 ? "\(count >> 20) MiB" : "\(count >> 30) GiB"
        }
    }

    struct Grow: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let the pool's image take more; the daemon and sprites may run.")

        @OptionGroup var data: DataOptions

        @Argument(help: "The new size, such as 200G.")
        var size: String

        func run() async throws {
            let bytes = try byteCount(size)
            let facts = try await withPool(data) { pool in
                try await pool.grow(to: bytes)
                return try await pool.facts()
            }
            say("the pool holds \(facts.space.totalBytes >> 20) MiB")
            if let free = facts.hostFreeBytes, let image = facts.image, image.bytes > image.allocatedBytes + free {
                say(
                    "only \(free >> 20) MiB are free where its image lies; the pool counts as full when those are used up"
                )
            }
        }
    }
}

private func withPool<Value: Sendable>(
    _ data: DataOptions, _ body: (BtrfsPool) async throws -> Value
) async throws -> Value {
    let names = try data.names()
    LoggingSystem.bootstrap { JSONLogHandler(logLevel: .warning, label: $0) }
    try makeRunDirectory(names.runDirectory)
    let pool = try await BtrfsPool.open(
        dataDirectory: names.dataDirectory, runDirectory: names.runDirectory, logger: Logger(label: "sprited"))
    let result = try await body(pool)
    await pool.close()
    return result
}
