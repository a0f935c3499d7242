// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteStorage
import SpriteSystem
import Testing

/// Compares the pool's operations with the raw ones, in one run. Loose bars: the exact ones belong to the benchmarks.
@Suite(.serialized, .enabled(if: Host.hasPool, "needs root, btrfs and loop devices"))
struct FigureTests {
    @Test func `a checkpoint of 200 MB costs no more than syncfs and a snapshot`() async throws {
        try await withPool(bytes: 6 << 30) { pool, _ in
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            let runs: UInt32 = 5
            var (raw, flushes, snapshots): ([Duration], [Duration], [Duration]) = ([], [], [])
            for run in 1...runs {
                try writeBytes("\(pool.upper(sprite))/big", 200 << 20)
                raw.append(
                    try await timed {
                        try runTool("sync", ["-f", pool.path])
                        try await pool.snapshot(sprite, as: .version(run))
                    })
                try writeBytes("\(pool.upper(sprite))/big", 200 << 20)
                flushes.append(try await timed { try await pool.flush(sprite) })
                snapshots.append(try await timed { try await pool.snapshot(sprite, as: .version(100 + run)) })
            }
            let ours = median(flushes) + median(snapshots)
            print("200 MB: syncfs + snapshot \(median(raw)); flush \(median(flushes)), snapshot \(median(snapshots))")
            #expect(ours <= median(raw) * 1.5 + .milliseconds(10))
        }
    }

    @Test func `many small files are written out before the snapshot`() async throws {
        try await withPool(bytes: 6 << 30) { pool, _ in
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            for content in ["", String(repeating: "x", count: 1000)] {
                for index in 0..<20_000 { try writeText("\(pool.upper(sprite))/f\(index)", content) }
                let flush = try await timed { try await pool.flush(sprite) }
                let version = UInt32(content.utf8.count + 1)
                let snapshot = try await timed { try await pool.snapshot(sprite, as: .version(version)) }
                print("20,000 files of \(content.utf8.count) bytes: flush \(flush), snapshot \(snapshot)")
            }
            for index in 0..<20_000 { unlink("\(pool.upper(sprite))/f\(index)") }
            let flush = try await timed { try await pool.flush(sprite) }
            let snapshot = try await timed { try await pool.snapshot(sprite, as: .version(7)) }
            print("20,000 files removed: flush \(flush), snapshot \(snapshot)")
        }
    }

    @Test func `nothing gets slower with 500 checkpoints, 300 sprites and 3 GB`() async throws {
        try await withPool(bytes: 12 << 30) { pool, fixture in
            let base = try await fixture.importBase(pool)
            let sprite = SpriteID.random()
            try await pool.createDisk(sprite)
            var next: UInt32 = 1
            func measure(_ name: String) async throws -> [Duration] {
                var (create, checkpoint, restore, mount): ([Duration], [Duration], [Duration], [Duration]) =
                    ([], [], [], [])
                for _ in 0..<20 {
                    let other = SpriteID.random()
                    create.append(try await timed { try await pool.createDisk(other) })
                    mount.append(try await timed { _ = try await pool.mountRoot(other, base: base) })
                    await pool.unmountRoot(other)
                    try await pool.deleteDisk(other)
                    checkpoint.append(
                        try await timed {
                            try await pool.flush(sprite)
                            try await pool.snapshot(sprite, as: .version(next))
                        })
                    let source = DiskSource.checkpoint(sprite, .version(next))
                    restore.append(
                        try await timed {
                            try await pool.restore(sprite, from: source, keepingReplacedAs: .automatic(next))
                        })
                    next += 1
                }
                let result = [create, mount, checkpoint, restore].map(median)
                print("\(name): create, mount, checkpoint, restore: \(result)")
                return result
            }
            let alone = try await measure("alone")
            for _ in 0..<230 {
                try await pool.snapshot(sprite, as: .version(next))
                next += 1
            }
            _ = try await measure("500 checkpoints")
            for _ in 0..<300 { try await pool.createDisk(.random()) }
            try writeBytes("\(pool.upper(sprite))/big", 3 << 30)
            try await pool.flush(sprite)
            let crowded = try await measure("with 300 sprites and 3 GB too")
            for (before, after) in zip(alone, crowded) { #expect(after <= before * 3 + .milliseconds(5)) }
            let listed = try await timed { _ = try await pool.inventory() }
            let deleted = try await timed { try await pool.deleteDisk(sprite) }
            print("inventory \(listed), delete \(deleted)")
        }
    }
}

func timed(_ body: () async throws -> Void) async rethrows -> Duration {
    let clock = ContinuousClock()
    let started = clock.now
    try await body()
    return clock.now - started
}

func median(_ values: [Duration]) -> Duration {
    values.isEmpty ? .zero : values.sorted()[values.count / 2]
}
