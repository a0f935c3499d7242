// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// Create until `true` has run in it.
    func create() async throws {
        let samples = try await createSamples()
        var raw = Samples()
        try await withSprite { sprite in raw = try await self.rawCreate(sprite) }
        report.add(
            Row(
                "create until true has run", samples, raw: ("snapshot + crun run", raw),
                bars: [.atMost(60), .atMost(2.5 * raw.median, "2.5 × raw")]))
    }

    func createSamples() async throws -> Samples {
        try await measure { _ in
            let name = self.freshName()
            let took = try await timed {
                let sprite = try await self.client.create(name)
                try await self.expectTrue(sprite)
            }
            try await self.client.sprite(name).destroy()
            return took
        }
    }

    /// The snapshot of an empty disk and `crun run` of the same bundle, by hand.
    private func rawCreate(_ sprite: Sprite) async throws -> Samples {
        let template = "\(settings.pool)/template"
        try raw.snapshot(template, as: "root", readOnly: false)
        let container = try RawContainer(
            runDirectory: settings.runDirectory, sprite: try await diskID(sprite),
            base: "\(settings.pool)/bases/\(settings.base)", disk: "\(raw.directory)/root")
        defer { container.remove() }
        let samples = try await measure { run in
            let took = try await timed {
                try raw.snapshot(template, as: "copy\(run)", readOnly: false)
                try container.run()
            }
            try raw.delete("copy\(run)")
            return took
        }
        container.remove()
        try raw.delete("root")
        return samples
    }

    /// Restore until `true` has run again.
    func restore() async throws {
        try await withSprite { sprite in
            let samples = try await self.restoreSamples(sprite)
            self.report.add(Row("restore until true has run", samples, bars: [.atMost(80)]))
        }
    }

    func restoreSamples(_ sprite: Sprite) async throws -> Samples {
        try await shell(sprite, "echo x > file")
        let checkpoint = try await sprite.createCheckpoint().id
        return try await measure { _ in
            try await timed {
                try await sprite.restore(checkpoint)
                try await self.expectTrue(sprite)
            }
        }
    }

    /// Fork until `true` has run in the fork.
    func fork() async throws {
        try await withSprite { sprite in
            try await self.shell(sprite, "echo x > file")
            let checkpoint = try await sprite.createCheckpoint().id
            let samples = try await self.measure { _ in
                let name = self.freshName()
                let took = try await timed {
                    let forked = try await sprite.fork(to: name, checkpoint: checkpoint)
                    try await self.expectTrue(forked)
                }
                try await self.client.sprite(name).destroy()
                return took
            }
            self.report.add(Row("fork until true has run", samples, bars: [.atMost(60)]))
        }
    }
}
