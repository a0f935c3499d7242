// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

extension Bench {
    /// The same with many sprites on the host, and what each of them holds in memory.
    func manySprites() async throws {
        let count = settings.sprites
        let tag = settings.runDirectory.split(separator: "/").last.map(String.init) ?? ""
        let before = (Memory.residentKiB(settings.daemonPid), Memory.spriteProcesses(tag: tag), kibibytesBelow(settings.runDirectory))
        var names: [String] = []
        do {
            for number in 0..<count {
                names.append(freshName())
                try await expectTrue(try await client.create(names[number]))
                if (number + 1).isMultiple(of: 50) { report.progress("\(number + 1) sprites") }
            }
            try await Task.sleep(for: .seconds(3))
            addMemory(count, tag: tag, before)
            try await sameRows("with \(count) sprites", client.sprite(names[0]))
        } catch {
            for name in names { try? await client.sprite(name).destroy() }
            throw error
        }
        for name in names { try await client.sprite(name).destroy() }
    }

    private func addMemory(_ count: Int, tag: String, _ before: (Int, (kibibytes: Int, count: Int), Int)) {
        let processes = Memory.spriteProcesses(tag: tag)
        let inside = Double(processes.kibibytes - before.1.kibibytes) / Double(count) / 1024
        let daemon = Double(Memory.residentKiB(settings.daemonPid) - before.0) / Double(count) / 1024
        let files = Double(kibibytesBelow(settings.runDirectory) - before.2) / Double(count) / 1024
        var total = Samples()
        total.add(milliseconds: inside + daemon + files)
        var row = Row("resident memory per idle sprite", total, bars: [.atMost(4)])
        row.unit = "MB"
        row.note = "of \(count): process 1 \(short(inside)), sprited \(short(daemon)), run directory \(short(files))"
        report.add(row)
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
