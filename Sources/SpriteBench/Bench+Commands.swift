// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// `true`, each over a new WebSocket.
    func exec() async throws {
        try await withSprite { sprite in
            var spawn = Samples()
            let samples = try await self.measure { run in
                let raw = try await timed { try self.raw.spawnTrue() }
                if run >= 0 { spawn.add(raw) }
                return try await timed { try await self.expectTrue(sprite) }
            }
            self.report.add(
                Row(
                    "exec true over a new WebSocket", samples, raw: ("posix_spawn", spawn),
                    bars: [.atMost(8), .atMost(4 * spawn.median + 3, "4 × raw + 3")]))
        }
    }

    /// `head -c 1G /dev/zero` into a client that discards.
    func throughput() async throws {
        try await withSprite { sprite in
            let bytes = 1 << 30
            var rates = Samples()
            for _ in 0..<self.settings.throughputRuns {
                let took = try await timed {
                    let running = try await sprite.command(["head", "-c", "\(bytes)", "/dev/zero"]).start()
                    running.closeInput()
                    var count = 0
                    for try await chunk in running.output { count += chunk.count }
                    let code = try await running.exitCode()
                    try await running.close()
                    guard count == bytes, code == 0 else { throw BenchFailure("\(count) bytes came, code \(code)") }
                }
                rates.add(milliseconds: Double(bytes) / 1e6 / (took.milliseconds / 1e3))
            }
            var row = Row("stdout of head -c 1G /dev/zero", rates, bars: [.atLeast(500)])
            row.unit = "MB/s"
            self.report.add(row)
        }
    }
}
