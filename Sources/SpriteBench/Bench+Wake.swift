// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// Sprites that fell asleep by themselves, each woken once by `true`.
    func wake() async throws {
        let awake = try await awakeSamples()
        let frozen = try await sleepers("warm") { $0.freezeAfterSeconds = 1 }
        var waking = Samples()
        for value in frozen.values { waking.add(milliseconds: max(0, value - awake.median)) }
        var row = Row("wake from frozen", waking, bars: [.atMost(3)])
        row.note = "true took \(oneDigit(frozen.median)) ms, in a sprite that ran \(oneDigit(awake.median)) ms"
        report.add(row)
        let stopped = try await sleepers("cold") { limits in
            limits.freezeAfterSeconds = 0
            limits.stopAfterSeconds = 1
        }
        report.add(Row("wake from stopped, until true has run", stopped, bars: [.atMost(60)]))
    }

    private func awakeSamples() async throws -> Samples {
        var samples = Samples()
        try await withSprite { sprite in
            samples = try await self.measure { _ in try await timed { try await self.expectTrue(sprite) } }
        }
        return samples
    }

    /// Makes sprites that fall asleep after a second, waits until they all have, and wakes one after the other.
    private func sleepers(_ status: String, _ change: (inout SpriteLimits) -> Void) async throws -> Samples {
        var options = SpriteOptions()
        change(&options.limits)
        var sprites: [Sprite] = []
        var samples = Samples()
        do {
            for _ in 0..<min(settings.runs, 30) {
                let sprite = try await client.create(freshName(), options)
                sprites.append(sprite)
                try await expectTrue(sprite)
            }
            for sprite in sprites {
                try await waitUntil(sprite, is: status)
                samples.add(try await timed { try await expectTrue(sprite) })
            }
        } catch {
            for sprite in sprites { try? await sprite.destroy() }
            throw error
        }
        for sprite in sprites { try await sprite.destroy() }
        return samples
    }

    private func waitUntil(_ sprite: Sprite, is status: String) async throws {
        for _ in 0..<300 {
            if try await sprite.fetchInfo().status == status { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        throw BenchFailure("\(sprite.name) did not become \(status) within 30 s")
    }

    /// What the daemon needs while nobody asks it for anything: 1,000 sprites, of which ten run.
    func rest() async throws {
        let count = settings.sleepingSprites
        var names: [String] = []
        do {
            var cold = SpriteOptions()
            cold.limits.freezeAfterSeconds = 0
            cold.limits.stopAfterSeconds = 1
            for number in 0..<count {
                names.append(freshName())
                _ = try await client.create(names[number], number < 10 ? SpriteOptions() : cold)
                if (number + 1).isMultiple(of: 100) { report.progress("\(number + 1) sprites") }
            }
            for name in names.dropFirst(10) { try await waitUntil(client.sprite(name), is: "cold") }
            // Those that run stay so for thirty seconds.
            for name in names.prefix(10) { try await expectTrue(client.sprite(name)) }
            try await Task.sleep(for: .seconds(2))
            var shares = Samples()
            for _ in 0..<5 {
                let before = try processorTicks()
                try await Task.sleep(for: .seconds(4))
                shares.add(milliseconds: Double(try processorTicks() - before) / 100 / 4 * 100)
            }
            var row = Row("daemon at rest, \(count) sprites of which 10 run", shares, bars: [.atMost(2)])
            row.unit = "% of a core"
            report.add(row)
        } catch {
            for name in names { try? await client.sprite(name).destroy() }
            throw error
        }
        for name in names { try await client.sprite(name).destroy() }
    }

    /// User and system time of the daemon, in hundredths of a second (USER_HZ is 100 on every Linux).
    func processorTicks() throws -> Int {
        let text = try readFile("/proc/\(settings.daemonPid)/stat")
        guard let end = text.lastIndex(of: ")") else { throw BenchFailure("cannot read the daemon's processor time") }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
            throw BenchFailure("cannot read the daemon's processor time")
        }
        return user + system
    }
}

private func oneDigit(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
