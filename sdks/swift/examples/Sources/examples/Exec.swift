// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Runs commands to their end.
@Sendable func exec() async throws {
    try await withSprite { sprite in
        print(try await sprite.command("echo hello from $(hostname | cut -c1-8)").output(), terminator: "")
        let result = try await sprite.command(["sh", "-c", "echo out; echo err >&2; exit 3"]).run()
        print(result.exitCode, result.stdoutText.dropLast(), result.stderrText.dropLast())
        print(try await sprite.command(["tr", "a-z", "A-Z"]).output(input: Array("input\n".utf8)), terminator: "")
        do {
            _ = try await sprite.command("exit 7").output()
        } catch let error as SpritesError where error.code == .commandFailed {
            print("failed with", error.result?.exitCode ?? 0)
        }
        var options = CommandOptions()
        options.timeout = .milliseconds(300)
        do {
            _ = try await sprite.command("sleep 60", options).run()
        } catch let error as SpritesError {
            print("ended:", error.code.rawValue)
        }
    }
}
