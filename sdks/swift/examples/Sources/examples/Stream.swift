// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Talks to a command that runs.
@Sendable func stream() async throws {
    try await withSprite { sprite in
        let command = sprite.command(#"while read x; do echo "got $x"; done; echo bye >&2"#)
        let running = try await command.start()
        var lines = running.lines.makeAsyncIterator()
        for word in ["one", "two"] {
            try await running.write(word + "\n")
            print(try await lines.next()?.text ?? "")
        }
        running.closeInput()
        while let line = try await lines.next() {
            if line.stream == .stderr { print(line.text) }
        }
        print("exit code", try await running.exitCode())
    }
}
