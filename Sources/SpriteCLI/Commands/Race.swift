// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Race: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "race", abstract: "Run a command in several forks at once and rank them.",
        usage: """
            sprite race [-s NAME] [-n 4] [--score COMMAND] [--lowest] [--from CHECKPOINT] [--promote] -- COMMAND...
            """,
        discussion: """
            Each fork finds its number in SPRITE_RACE_INDEX. The score is the last word that --score prints, a number; \
            the highest wins, or the lowest with --lowest. Without it the first to succeed wins. --promote puts the \
            winner's disk in the sprite's place; `sprite restore --undo` takes that back. The forks are removed.
            """)

    @OptionGroup var global: GlobalOptions

    @Option(name: [.customShort("n"), .long], help: "How many forks, up to 16.")
    var count = 2

    @Option(help: "A shell command that prints the score.")
    var score: String?

    @Flag(help: "The lowest score wins.")
    var lowest = false

    @Option(help: "The checkpoint the forks are made of; without it the state of now.")
    var from: String?

    @Flag(help: "Put the winner in the sprite's place.")
    var promote = false

    @Option(help: "Seconds that one command may take.")
    var timeout: Double?

    @Flag(help: "Print the result as JSON, one object a line.")
    var json = false

    @Argument(parsing: .postTerminator, help: "The command.")
    var command: [String] = []

    func validate() throws {
        guard !command.isEmpty else { throw ValidationError("no command is given; use sprite race -- COMMAND...") }
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        var request = API.AttemptRequest(command: API.CommandLine(command))
        request.count = count
        request.score = score.map { API.CommandLine(["sh", "-c", $0]) }
        request.lowest = lowest
        request.checkpoint = from
        request.promote = promote
        request.timeoutSeconds = timeout
        let json = json
        let racers = Collected<API.Racer>()
        let last = try await sprite.race(request) { line in
            if json { return try printJSONLine(line) }
            if let racer = line.racer {
                await racers.append(racer)
                printNote("fork \(racer.index) \(racer.problem ?? "has come in")")
            }
        }
        if json { return try printJSONLine(last) }
        var table = Table("RANK", "FORK", "SCORE", "EXIT", "TIME", "CHANGES", "PROBLEM")
        let all = await racers.values
        for (rank, index) in (last.ranking ?? []).enumerated() {
            guard let racer = all.first(where: { $0.index == index }) else { continue }
            table.add(
                "\(rank + 1)", "\(index)", racer.score.map { "\($0)" } ?? "-", racer.exitCode.map { "\($0)" } ?? "-",
                Duration.milliseconds(racer.elapsedMilliseconds).shortText,
                racer.stat.map { "\($0.total)" } ?? "-", racer.problem ?? "")
        }
        try table.print()
        if let promoted = last.promotedID {
            printNote(
                "promoted fork \(last.ranking?.first ?? 0) as \(promoted); the replaced state is kept as "
                    + (last.replacedID ?? "an automatic checkpoint"))
        } else {
            printNote("the forks were of \(last.checkpointID ?? "the state of now"); --promote would take the first")
        }
    }
}

/// Values that a handler collects.
actor Collected<Value: Sendable> {
    private(set) var values: [Value] = []
    func append(_ value: Value) { values.append(value) }
}
