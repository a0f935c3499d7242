// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteStorage
import SpriteSystem
import Testing

@Suite(.serialized, .enabled(if: Host.hasPool, "needs root, btrfs and loop devices"))
struct PoolTests {
    @Test func `a sprite is created, changed, checkpointed, restored and restored back`() async throws {
        try await withPool { pool, fixture in
            let base = try await fixture.importBase(pool)
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            try await pool.createDisk(sprite)
            let root = try await pool.mountRoot(sprite, base: base)
            #expect(readText("\(root)/etc/name") == "small")
            try writeText("\(root)/file", "one")
            try writeText("\(root)/etc/name", "changed")
            try await pool.flush(sprite)
            try await pool.snapshot(sprite, as: .version(1))
            try await pool.snapshot(sprite, as: .version(1))
            try writeText("\(root)/file", "two")
            await pool.unmountRoot(sprite)
            await pool.unmountRoot(sprite)

            let first = DiskSource.checkpoint(sprite, .version(1))
            try await pool.restore(sprite, from: first, keepingReplacedAs: .automatic(1))
            #expect(readText("\(pool.upper(sprite))/file") == "one")
            #expect(readText("\(pool.upper(sprite, "auto-1"))/file") == "two")
            try await pool.restore(
                sprite, from: .checkpoint(sprite, .automatic(1)), keepingReplacedAs: .automatic(2))
            #expect(readText("\(pool.upper(sprite))/file") == "two")

            let restored = try await pool.mountRoot(sprite, base: base)
            #expect(readText("\(restored)/etc/name") == "changed")
            await pool.unmountRoot(sprite)
            try await pool.restore(sprite, from: .checkpoint(sprite, .initial), keepingReplacedAs: .automatic(3))
            #expect(!exists("\(pool.upper(sprite))/file"))

            let inventory = try await pool.inventory()
            #expect(inventory[sprite]?.hasLiveDisk == true)
            #expect(
                inventory[sprite]?.checkpoints
                    == [.initial, .version(1), .automatic(1), .automatic(2), .automatic(3)])
            try await pool.deleteSnapshot(sprite, .version(1))
            try await pool.deleteSnapshot(sprite, .version(1))
            try await pool.deleteDisk(sprite)
            try await pool.deleteDisk(sprite)
            #expect(try await pool.inventory().isEmpty)
        }
    }

    @Test func `a fork begins with the checkpoint and its own v0 stays that`() async throws {
        try await withPool { pool, _ in
            let (parent, child, sibling) = (SpriteID.random(), SpriteID.random(), SpriteID.random())
            try await pool.createDisk(parent)
            try writeText("\(pool.upper(parent))/file", "parent")
            try await pool.snapshot(parent, as: .version(1))
            try await pool.createDisk(child, from: .checkpoint(parent, .version(1)))
            try writeText("\(pool.upper(parent))/file", "later")
            try await pool.createDisk(sibling, from: .live(parent))
            try await pool.deleteDisk(parent)
            await pool.finishTrash()
            #expect(readText("\(pool.upper(child))/file") == "parent")
            #expect(readText("\(pool.upper(sibling))/file") == "later")
            try writeText("\(pool.upper(child))/file", "child")
            try await pool.restore(child, from: .checkpoint(child, .initial), keepingReplacedAs: .automatic(1))
            #expect(readText("\(pool.upper(child))/file") == "parent")
        }
    }

    @Test func `what is missing is said to be missing`() async throws {
        try await withPool { pool, fixture in
            let base = try await fixture.importBase(pool)
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            await #expect(throws: SpriteError.self) { try await pool.snapshot(.random(), as: .version(1)) }
            await expectCode(.notFound) {
                try await pool.createDisk(.random(), from: .checkpoint(sprite, .version(9)))
            }
            await expectCode(.notFound) { _ = try await pool.mountRoot(sprite, base: BaseName("other")) }
            await expectCode(.alreadyExists) { _ = try await fixture.importBase(pool) }
            try await pool.removeBase(base)
            await expectCode(.notFound) { try await pool.removeBase(base) }
        }
    }

    @Test func `a checkpoint root shows the old state and cannot be written`() async throws {
        try await withPool { pool, fixture in
            let base = try await fixture.importBase(pool)
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            let root = try await pool.mountRoot(sprite, base: base)
            try writeText("\(root)/file", "old")
            try system("unlink") { unlink("\(root)/etc/name") }
            try await pool.snapshot(sprite, as: .version(1))
            try writeText("\(root)/file", "new")
            let tree = Descriptor(owning: try await pool.openCheckpointRoot(sprite, base: base, .version(1)))
            let view = "\(fixture.folder)/view"
            try system("mkdir") { mkdir(view, 0o755) }
            try checked(clinux_attach_mount(tree.number, view), "attach")
            defer { clinux_detach_mount(view) }
            #expect(readText("\(view)/file") == "old")
            #expect(!exists("\(view)/etc/name"))
            #expect(throws: SystemError.self) { try writeText("\(view)/file", "changed") }
            await pool.unmountRoot(sprite)
        }
    }

    @Test func `files of the base and of the sprite never share an inode number`() async throws {
        try await withPool { pool, _ in
            let base = try BaseName("many")
            try await pool.importBase(base, replacing: false) { workspace in
                for index in 0..<3000 { try writeText("\(workspace.path)/b\(index)", "") }
                return []
            }
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            let root = try await pool.mountRoot(sprite, base: base)
            for index in 0..<3000 { try writeText("\(root)/s\(index)", "") }
            var seen: Set<UInt64> = []
            for index in 0..<3000 {
                for letter in ["b", "s"] {
                    var facts = stat()
                    try system("stat") { stat("\(root)/\(letter)\(index)", &facts) }
                    #expect(seen.insert(UInt64(facts.st_ino)).inserted)
                }
            }
            await pool.unmountRoot(sprite)
        }
    }

    @Test func `a nested subvolume is refused by name and deleted with its sprite`() async throws {
        try await withPool { pool, _ in
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            try system("mkdir") { mkdir("\(pool.upper(sprite))/deep", 0o755) }
            try runTool("btrfs", ["-q", "subvolume", "create", "\(pool.upper(sprite))/deep/nested"])
            let error = await #expect(throws: SpriteError.self) { try await pool.snapshot(sprite, as: .version(1)) }
            #expect(error?.code == .conflict)
            #expect(error?.message.contains("/deep/nested is a btrfs subvolume") == true)
            await expectCode(.conflict) { try await pool.createDisk(.random(), from: .live(sprite)) }
            try await pool.deleteDisk(sprite)
            await pool.finishTrash()
            #expect(!exists("\(pool.path)/sprites/\(sprite)"))
            #expect(try runTool("ls", ["\(pool.path)/trash"]).standardOutput.isEmpty)
        }
    }

    @Test func `a full pool refuses with no_space, and deleting works`() async throws {
        try await withPool(bytes: 1 << 30) { pool, _ in
            let (full, other) = (SpriteID.random(), SpriteID.random())
            try await pool.createDisk(full)
            try await pool.createDisk(other)
            try writeText("\(pool.upper(other))/file", "kept")
            try await pool.snapshot(other, as: .version(1))
            try writeBytes("\(pool.upper(full))/big", 2 << 30)
            try? await pool.flush(full)
            // Checkpoints need only metadata, which has room of its own.
            for version in 1...200 { try await pool.snapshot(full, as: .version(UInt32(version))) }
            #expect(try await pool.space().availableBytes < 32 << 20)
            try await pool.deleteDisk(full)
            await pool.finishTrash()
            #expect(readText("\(pool.upper(other, "v1"))/file") == "kept")
            try writeBytes("\(pool.upper(other))/big", 50 << 20)
            try await pool.snapshot(other, as: .version(2))
        }
    }

    @Test func `opening twice at once uses one loop device, and again after closing`() async throws {
        try await withPool { pool, fixture in
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            let second = try await fixture.open()
            try writeText("\(second.upper(sprite))/file", "x")
            // A mount that keeps the filesystem alive while the pool is closed and opened: a sprite that still runs.
            let base = try await fixture.importBase(pool)
            let root = try await pool.mountRoot(sprite, base: base)
            let survivor = Descriptor(owning: try checked(clinux_clone_mount(root, 0), "clone"))
            await pool.close()
            let third = try await fixture.open()
            #expect(readText("\(third.upper(sprite))/file") == "x")
            let image = "\(fixture.data)/pool.img"
            let devices = try runTool("losetup", ["--noheadings", "--output", "NAME", "-j", image])
            #expect(devices.standardOutput.split(separator: "\n").count == 1)
            await third.close()
            withExtendedLifetime(survivor) {}
        }
    }
}

func expectCode(
    _ code: SpriteError.Code, _ body: () async throws -> Void, location: SourceLocation = #_sourceLocation
) async {
    let error = await #expect(throws: SpriteError.self, sourceLocation: location) { try await body() }
    #expect(error?.code == code, sourceLocation: location)
}
