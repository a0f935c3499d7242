// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// A checkpoint that a program in the sprite asks for, as that program sees it: from the start of `sprite-env` to its
    /// end. The times are taken by the sprite's own bash, which reads the clock without starting anything.
    func checkpointInside() async throws {
        try await withSprite { sprite in
            let script = """
                for run in $(seq \(self.settings.runs + 3)); do
                    begin=$EPOCHREALTIME
                    /.sprite/bin/sprite-env checkpoints create >/dev/null || exit 1
                    echo $((${EPOCHREALTIME/./} - ${begin/./}))
                done
                """
            let result = try await sprite.command(["bash", "-c", script]).run()
            let times = String(decoding: result.stdout, as: UTF8.self).split(separator: "\n").compactMap { Double($0) }
            guard result.exitCode == 0, times.count == self.settings.runs + 3 else {
                throw BenchFailure("\(times.count) checkpoints came, code \(result.exitCode)")
            }
            var samples = Samples()
            for microseconds in times.dropFirst(3) { samples.add(milliseconds: microseconds / 1000) }
            self.report.add(Row("checkpoint from inside, sprite-env included", samples, bars: [.atMost(15)]))
        }
    }
}
