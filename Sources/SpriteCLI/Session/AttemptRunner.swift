// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Runs a command such that it can be undone, and shows what it printed and changed.
struct AttemptRunner: Sendable {
    let sprite: Sprite
    var request: API.AttemptRequest
    var isJSON = false

    /// Ends this process with the command's exit code, or with that of the check.
    func run() async throws -> Never {
        let isJSON = isJSON
        let last = try await sprite.attempt(request) { line in
            if isJSON { return try printJSONLine(line) }
            switch line.type {
            case "stdout": try writeOutput(line, to: 1)
            case "stderr": try writeOutput(line, to: 2)
            case "change":
                if let change = line.change { printNote(ChangeText.line(change)) }
            default: break
            }
        }
        if isJSON {
            try printJSONLine(last)
        } else {
            if let stat = last.stat { printNote(ChangeText.summary(stat)) }
            printNote(Self.sentence(last, sprite.name))
        }
        let exit = last.exitCode ?? 1
        SpriteProgram.finish(Int32(exit == 0 ? last.checkExitCode ?? 0 : exit))
    }

    private static func sentence(_ last: API.AttemptLine, _ sprite: String) -> String {
        switch last.outcome {
        case "kept": "kept; `sprite restore -s \(sprite) \(last.checkpointID ?? "?")` goes back to the state before"
        case "rolled_back":
            "rolled back to the state before; what was undone is kept as \(last.replacedID ?? "?")"
        case "dropped": "dry run: the fork with these changes is dropped"
        default: last.outcome ?? ""
        }
    }
}

/// Writes what a command printed to a descriptor, byte for byte.
func writeOutput(_ line: API.AttemptLine, to descriptor: Int32) throws {
    let number = line.outputBytes.withUnsafeBytes { writeAll(descriptor, $0) }
    if number != 0, descriptor == 1 { throw OutputClosed() }
}
