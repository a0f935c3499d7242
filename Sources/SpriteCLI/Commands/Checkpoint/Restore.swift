// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Restore: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Put the disk back to a checkpoint.",
        usage: """
            sprite restore [-s NAME] CHECKPOINT [--path PATH]
            sprite restore [-s NAME] --undo
            """,
        discussion:
            """
            What runs is ended, except with --path, which brings one file or directory back while everything goes on. \
            The replaced state is kept: --undo brings it back. v0 is the state at creation.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The checkpoint, such as v1.")
    var id: String?

    @Option(help: "Only this file or directory, an absolute path.")
    var path: String?

    @Flag(help: "Bring back what the last restore replaced.")
    var undo = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    private struct Output: Encodable {
        var restored: String?
        var replaced: String?
        var elapsed_ms: Double
    }

    func validate() throws {
        guard (id != nil) != undo else { throw ValidationError("give either a checkpoint or --undo") }
        guard path == nil || id != nil else { throw ValidationError("--undo knows the path by itself") }
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        let (restored, duration) = try await timed {
            if let id, let path {
                try await sprite.restore(id, path: path)
            } else if let id {
                try await sprite.restore(id)
            } else {
                try await sprite.undoRestore()
            }
        }
        if json {
            return try printJSON(
                Output(
                    restored: restored.id ?? id, replaced: restored.replacedID, elapsed_ms: duration.milliseconds))
        }
        let whole = restored.id ?? id ?? "what the last restore replaced"
        let state = path.map { "\($0) from \(whole)" } ?? whole
        let kept = restored.replacedID.map { "; the replaced state is kept as \($0)" } ?? ""
        printNote("restored \(state) in \(duration.shortText)\(kept)")
    }
}
