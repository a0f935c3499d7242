// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteStorage
import SpriteSystem
import Testing

/// Puts the disk into each state a killed daemon can leave, and goes on from there.
@Suite(.serialized, .enabled(if: Host.hasPool, "needs root, btrfs and loop devices"))
struct CrashTests {
    enum Step: CaseIterable { case copied, exchanged, moved, complete }

    @Test(arguments: Step.allCases, [false, true])
    func `a restore that was interrupted is completed`(step: Step, inventoryFirst: Bool) async throws {
        try await withPool { pool, _ in
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            try writeText("\(pool.upper(sprite))/file", "old")
            try await pool.snapshot(sprite, as: .version(1))
            try writeText("\(pool.upper(sprite))/file", "new")
            try interrupt(pool, sprite, after: step)
            if inventoryFirst {
                let inventory = try await pool.inventory()
                #expect(inventory[sprite]?.hasLiveDisk == true)
                #expect(inventory[sprite]?.checkpoints.contains(.automatic(1)) == (step != .copied))
            }
            let source = DiskSource.checkpoint(sprite, .version(1))
            for _ in 0..<2 {
                try await pool.restore(sprite, from: source, keepingReplacedAs: .automatic(1))
                #expect(readText("\(pool.upper(sprite))/file") == "old")
                #expect(readText("\(pool.upper(sprite, "auto-1"))/file") == "new")
                #expect(throws: SystemError.self) { try writeText("\(pool.upper(sprite, "auto-1"))/file", "x") }
            }
            #expect(!exists("\(pool.path)/sprites/\(sprite)/replaced-auto-1"))
        }
    }

    private func interrupt(_ pool: BtrfsPool, _ sprite: SpriteID, after step: Step) throws {
        let disk = "\(pool.path)/sprites/\(sprite)"
        let staged = "\(disk)/replaced-auto-1"
        try runTool("btrfs", ["-q", "subvolume", "snapshot", "\(disk)/checkpoints/v1", staged])
        if step == .copied { return }
        try checked(clinux_exchange(staged, "\(disk)/live"), "exchange")
        if step == .exchanged { return }
        try system("rename") { rename(staged, "\(disk)/checkpoints/auto-1") }
        if step == .moved { return }
        try runTool("btrfs", ["property", "set", "-ts", "\(disk)/checkpoints/auto-1", "ro", "true"])
    }

    @Test func `a creation that was interrupted is completed`() async throws {
        try await withPool { pool, _ in
            let (sprite, fork) = (SpriteID.random(), SpriteID.random())
            try system("mkdir") { mkdir("\(pool.path)/sprites/\(sprite)", 0o700) }
            try await pool.createDisk(sprite)
            try writeText("\(pool.upper(sprite))/file", "x")
            try await pool.snapshot(sprite, as: .version(1))
            try await pool.createDisk(fork, from: .checkpoint(sprite, .version(1)))
            try runTool("btrfs", ["-q", "subvolume", "delete", "\(pool.path)/sprites/\(fork)/live"])
            #expect(try await pool.inventory()[fork]?.hasLiveDisk == false)
            try await pool.createDisk(fork, from: .checkpoint(sprite, .version(1)))
            #expect(readText("\(pool.upper(fork))/file") == "x")
        }
    }

    @Test func `bases that were not finished and disks in the trash go when the pool is opened`() async throws {
        try await withPool { pool, fixture in
            let base = try await fixture.importBase(pool)
            let bases = "\(pool.path)/bases"
            try runTool("btrfs", ["-q", "subvolume", "create", "\(bases)/.new-dead"])
            try runTool("btrfs", ["-q", "subvolume", "create", "\(bases)/.new-live"])
            try runTool("btrfs", ["-q", "subvolume", "create", "\(bases)/.retired-00000000-a"])
            try system("mkdir") { mkdir("\(pool.path)/trash/t", 0o700) }
            try runTool("btrfs", ["-q", "subvolume", "create", "\(pool.path)/trash/t/live"])
            let worker = try Descriptor.open("\(bases)/.new-live", O_RDONLY | O_DIRECTORY)
            try system("lock") { flock(worker.number, LOCK_EX) }
            let again = try await fixture.open()
            await again.finishTrash()
            #expect(!exists("\(bases)/.new-dead"))
            #expect(!exists("\(bases)/.retired-00000000-a"))
            #expect(exists("\(bases)/.new-live"))
            #expect(!exists("\(pool.path)/trash/t"))
            #expect(try await again.bases() == [base])
            withExtendedLifetime(worker) {}
        }
    }

    @Test func `a base that is replaced stays for the sprites that show it`() async throws {
        try await withPool { pool, fixture in
            let base = try await fixture.importBase(pool)
            let (old, new) = (SpriteID.random(), SpriteID.random())
            try await pool.createDisk(old)
            let root = try await pool.mountRoot(old, base: base)
            try await pool.importBase(base, replacing: true) { workspace in
                try writeText("\(workspace.path)/second", "2")
                return Array("second".utf8)
            }
            #expect(readText("\(root)/etc/name") == "small")
            try await pool.createDisk(new)
            let renewed = try await pool.mountRoot(new, base: base)
            #expect(readText("\(renewed)/second") == "2")
            #expect(try await pool.baseDescriptions().map(\.description) == [Array("second".utf8)])
            await pool.unmountRoot(old)
            await pool.unmountRoot(new)
        }
    }

    @Test func `a base that cannot be filled leaves nothing`() async throws {
        try await withPool { pool, _ in
            await expectCode(.invalidRequest) {
                try await pool.importBase(BaseName("bad"), replacing: false) { workspace in
                    try writeText("\(workspace.path)/half", "")
                    throw SpriteError(.invalidRequest, "no")
                }
            }
            let bases = try await pool.bases()
            let left = try runTool("ls", ["-A", "\(pool.path)/bases"]).standardOutput
            #expect(bases.isEmpty)
            #expect(left.isEmpty)
        }
    }
}
