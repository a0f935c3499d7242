// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// Sprites whose disk is limited beside others, in a pool that counted nothing when those were measured.
    ///
    /// The last group, since a pool that counts once counts for ever.
    func limits() async throws {
        let free = try await diskSamples(SpriteOptions())
        var options = SpriteOptions()
        options.limits.diskMiB = 10 << 10
        let limited = try await diskSamples(options)
        let rows = [
            ("create, disk limited", limited.create, free.create),
            ("checkpoint, disk limited", limited.checkpoint, free.checkpoint),
            ("64 MB written, disk limited", limited.write, free.write),
            ("2,000 files made, disk limited", limited.files, free.files),
        ]
        for (name, samples, other) in rows {
            report.add(
                Row(
                    name, samples, raw: ("without limits", other),
                    bars: [.atMost(1.3 * other.median + 2, "1.3 × without + 2")]))
        }
    }

    private func diskSamples(
        _ options: SpriteOptions
    ) async throws -> (create: Samples, checkpoint: Samples, write: Samples, files: Samples) {
        var (create, checkpoint, write, files) = (Samples(), Samples(), Samples(), Samples())
        for run in -3..<settings.runs {
            var made: Sprite?
            let name = freshName()
            let creation = try await timed { made = try await self.client.create(name, options) }
            guard let sprite = made else { continue }
            let writing = try await timed {
                try await self.shell(sprite, "head -c 64000000 /dev/zero > file; sync file")
            }
            let filling = try await timed {
                try await self.shell(
                    sprite, "mkdir d; cd d; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo x > $i; done")
            }
            let taking = try await timed { _ = try await sprite.createCheckpoint() }
            try await sprite.destroy()
            guard run >= 0 else { continue }
            create.add(creation)
            write.add(writing)
            files.add(filling)
            checkpoint.add(taking)
        }
        return (create, checkpoint, write, files)
    }
}
