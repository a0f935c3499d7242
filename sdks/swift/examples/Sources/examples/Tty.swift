// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Uses a terminal, leaves it and comes back.
@Sendable func tty() async throws {
    try await withSprite { sprite in
        var options = CommandOptions()
        options.terminal = TerminalSize(rows: 30, columns: 100)
        let first = try await sprite.command(#"stty size; read x; echo "got $x""#, options).start()
        var lines = first.lines.makeAsyncIterator()
        print(try await lines.next()?.text ?? "")
        try await first.close()

        let again = try await sprite.attach(first.sessionID)
        lines = again.lines.makeAsyncIterator()
        print(try await lines.next()?.text ?? "", "again")
        try await again.write("hello\n")
        _ = try await lines.next()  // What was typed.
        print(try await lines.next()?.text ?? "")
        print("exit code", try await again.exitCode())
    }
}
