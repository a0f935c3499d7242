// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// What differs from a checkpoint, a thousand files on a large disk, live and between two checkpoints.
    func diff() async throws {
        let changes = 1000
        try await withSprite { sprite in
            let megabytes = self.settings.diskGiB * 1024
            // Many files beside the large ones, so that walking would show.
            try await self.shell(
                sprite,
                "mkdir big many && for i in $(seq \(megabytes / 64)); do head -c 64M /dev/urandom > big/$i; done;"
                    + " for i in $(seq 100); do mkdir many/$i; for j in $(seq 200); do echo x > many/$i/$j; done; done")
            let first = try await sprite.createCheckpoint().id
            try await self.shell(
                sprite,
                "for i in $(seq 100); do for j in 1 2 3 4 5 6 7; do echo y > many/$i/$j; done;"
                    + " chmod 600 many/$i/8; rm many/$i/9; echo new > many/$i/new; done;")
            for (name, to) in [("the live state", "current"), ("a checkpoint", try await sprite.createCheckpoint().id)]
            {
                var options = DiffOptions(from: first)
                options.to = to
                let wanted = options
                let samples = try await self.measure { _ in
                    try await timed {
                        let found = try await sprite.diff(wanted) { _ in }
                        guard found.stat.total == changes else {
                            throw BenchFailure("\(found.stat.total) differences were found, \(changes) made")
                        }
                    }
                }
                self.report.add(
                    Row(
                        "diff with \(name), \(changes) changes on \(self.settings.diskGiB) GiB", samples,
                        bars: [.atMost(300)]))
            }
        }
    }
}
