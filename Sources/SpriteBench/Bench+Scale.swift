// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

extension Bench {
    /// What each of many idle sprites holds in memory.
    func memory() async throws {
        let count = settings.sprites
        let before = heldKiB()
        try await withSprites(count) { _ in
            try await Task.sleep(for: .seconds(3))
            let after = heldKiB()
            func each(_ total: Int) -> Double { Double(total) * 1024 / 1e6 / Double(count) }
            let parts = (
                inside: each(after.inside - before.inside), daemon: each(after.daemon - before.daemon),
                files: each(after.files - before.files)
            )
            var total = Samples()
            total.add(milliseconds: parts.inside + parts.daemon + parts.files)
            var row = Row("resident memory per idle sprite", total, bars: [.atMost(4)])
            row.unit = "MB"
            row.note =
                "of \(count): process 1 \(short(parts.inside)), sprited \(short(parts.daemon)), "
                + "run directory \(short(parts.files)); \(after.processes) processes in sprites"
            row.isMeasured = after.processes - before.processes >= count
            report.add(row)
        }
    }

    private func heldKiB() -> (inside: Int, processes: Int, daemon: Int, files: Int) {
        let tag = settings.runDirectory.split(separator: "/").last.map(String.init) ?? ""
        let inside = Memory.spriteProcesses(tag: tag)
        return (
            inside.kibibytes, inside.count, Memory.residentKiB(settings.daemonPid),
            kibibytesBelow(settings.runDirectory)
        )
    }

    /// Many sprites for the time of `body`, each of which has run `true`.
    private func withSprites(_ count: Int, _ body: ([String]) async throws -> Void) async throws {
        var names: [String] = []
        do {
            for number in 0..<count {
                names.append(freshName())
                try await expectTrue(try await client.create(names[number]))
                if (number + 1).isMultiple(of: 50) { report.progress("\(number + 1) sprites") }
            }
            try await body(names)
        } catch {
            for name in names { try? await client.sprite(name).destroy() }
            throw error
        }
        for name in names { try await client.sprite(name).destroy() }
    }

    /// The same with many sprites on the host.
    func manySprites() async throws {
        try await withSprites(settings.sprites) { names in
            try await sameRows("with \(settings.sprites) sprites", client.sprite(names[0]))
        }
    }

    /// The same with many checkpoints of one sprite.
    func manyCheckpoints() async throws {
        try await withSprite { sprite in
            for number in 0..<self.settings.checkpoints {
                _ = try await sprite.createCheckpoint()
                if (number + 1).isMultiple(of: 100) { self.report.progress("\(number + 1) checkpoints") }
            }
            try await self.sameRows("with \(self.settings.checkpoints) checkpoints", sprite)
        }
    }

    /// The same with a large disk.
    func largeDisk() async throws {
        try await withSprite { sprite in
            let script = "for i in $(seq \(self.settings.diskGiB)); do head -c 1G /dev/urandom > big$i; done; sync"
            try await self.shell(sprite, script)
            try await self.sameRows("with a \(self.settings.diskGiB) GB disk", sprite)
        }
    }

    private func sameRows(_ condition: String, _ sprite: Sprite) async throws {
        let created = try await createSamples()
        report.add(Row("create \(condition)", created, bars: notSlower("create")))
        let (checkpointed, raw) = try await checkpointSamples(sprite)
        report.add(
            Row("checkpoint \(condition)", checkpointed, raw: ("snapshot ioctl", raw), bars: notSlower("checkpoint")))
        let restored = try await restoreSamples(sprite)
        report.add(Row("restore \(condition)", restored, bars: notSlower("restore")))
    }
}

private func short(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
