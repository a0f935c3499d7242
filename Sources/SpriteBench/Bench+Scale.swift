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
        try await besideAlone("with \(settings.sprites) sprites") { measured in
            try await withSprites(settings.sprites) { names in try await measured(client.sprite(names[0])) }
        }
    }

    /// The same with many checkpoints of one sprite.
    func manyCheckpoints() async throws {
        try await besideAlone("with \(settings.checkpoints) checkpoints") { measured in
            try await withSprite { sprite in
                for number in 0..<self.settings.checkpoints {
                    _ = try await sprite.createCheckpoint()
                    if (number + 1).isMultiple(of: 100) { self.report.progress("\(number + 1) checkpoints") }
                }
                try await measured(sprite)
            }
        }
    }

    /// The same with a large disk.
    func largeDisk() async throws {
        try await besideAlone("with a \(settings.diskGiB) GB disk") { measured in
            try await withSprite { sprite in
                let script = "for i in $(seq \(self.settings.diskGiB)); do head -c 1G /dev/urandom > big$i; done; sync"
                try await self.shell(sprite, script)
                try await measured(sprite)
            }
        }
    }

    /// Measures a small sprite that is alone before `condition` holds and again after, and in between, as `body` asks
    /// for it, a sprite under that condition: a machine that grows slower meanwhile would otherwise look like a cost
    /// that grows with the condition.
    private func besideAlone(
        _ condition: String, _ body: (_ measured: (Sprite) async throws -> Void) async throws -> Void
    ) async throws {
        var alone = Triple()
        var loaded = Triple()
        try await withSprite { try await self.add(to: &alone, $0) }
        try await body { try await self.add(to: &loaded, $0) }
        try await withSprite { try await self.add(to: &alone, $0) }
        func row(_ operation: String, _ samples: Samples, _ alone: Samples) {
            report.add(
                Row(
                    "\(operation) \(condition)", samples, raw: ("alone", alone),
                    bars: [.atMost(1.3 * alone.median, "1.3 × alone")]))
        }
        row("create", loaded.created, alone.created)
        row("checkpoint", loaded.checkpointed, alone.checkpointed)
        row("restore", loaded.restored, alone.restored)
    }

    private func add(to triple: inout Triple, _ sprite: Sprite) async throws {
        triple.created.add(try await createSamples())
        triple.checkpointed.add(try await checkpointSamples(sprite).api)
        triple.restored.add(try await restoreSamples(sprite))
    }
}

/// The three operations that must not cost more on a fuller host.
private struct Triple {
    var created = Samples()
    var checkpointed = Samples()
    var restored = Samples()
}

private func short(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
