// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Bisect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bisect", abstract: "Find the checkpoint from which on a command fails.",
        usage: "sprite bisect [-s NAME] GOOD..BAD -- COMMAND...",
        discussion: """
            Runs the command in throw-away forks of checkpoints between the two. It ends with 0 where all is good, with \
            125 where that cannot be told, with 1 to 127 where it is bad, and with anything else to break off, as for \
            `git bisect run`.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Such as v2..v9.")
    var range: String

    @Flag(help: "Test automatic checkpoints as well.")
    var includeAuto = false

    @Option(help: "Seconds that one command may take.")
    var timeout: Double?

    @Flag(help: "Print the result as JSON, one object a line.")
    var json = false

    @Argument(parsing: .postTerminator, help: "The command.")
    var command: [String] = []

    private var ends: (good: String, bad: String)? {
        guard let dots = range.firstRange(of: "..") else { return nil }
        let (good, bad) = (String(range[..<dots.lowerBound]), String(range[dots.upperBound...]))
        return good.isEmpty || bad.isEmpty ? nil : (good, bad)
    }

    func validate() throws {
        guard ends != nil else { throw ValidationError("give two checkpoints, as in v2..v9") }
        guard !command.isEmpty else {
            throw ValidationError("no command is given; use sprite bisect A..B -- COMMAND...")
        }
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        var request = API.AttemptRequest(command: API.CommandLine(command))
        request.good = ends?.good
        request.bad = ends?.bad
        request.includeAuto = includeAuto
        request.timeoutSeconds = timeout
        let json = json
        let last = try await sprite.bisect(request) { line in
            if json { return try printJSONLine(line) }
            switch line.type {
            case "stdout", "stderr": try writeOutput(line, to: 2)
            case "tested": printNote("\(line.checkpointID ?? "?") is \(line.verdict ?? "?"), \(line.left ?? 0) left")
            default: break
            }
        }
        if json { return try printJSONLine(last) }
        let bad = last.firstBad ?? []
        for id in bad { try printLine(id) }
        printNote(
            bad.count == 1
                ? "\(bad[0]) is the first bad checkpoint; \(last.lastGood ?? "?") is good"
                : "the first bad checkpoint is one of these \(bad.count); the others could not be tested")
    }
}
