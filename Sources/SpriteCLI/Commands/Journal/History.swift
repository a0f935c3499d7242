// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct History: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "List the commands that ran, with exit codes and durations.")

    @OptionGroup var global: GlobalOptions

    @Option(name: [.customShort("n"), .customLong("lines")], help: "How many commands.")
    var lines = 50
    @Option(help: "Only from this time on: 10m, a time, or a checkpoint.")
    var since: String?
    @Flag(help: "Print records as JSON, one a line.")
    var json = false

    func run() async throws {
        guard (1...5000).contains(lines) else { throw UsageError("-n \(lines): give a number from 1 to 5000") }
        let context = try Context(global)
        var query = API.Query([.init("event", "exec.started,exec.ended")])
        if let since { query.items.append(.init("since", since)) }
        let records = try await context.client().newestLogs(lines * 2, sprite: try context.spriteName(), query)
        let commands = Self.commands(records.reversed()).suffix(lines)
        if json {
            let printer = RecordPrinter(isTerminal: false, isRaw: true, isJSON: true, showsSprite: false)
            for command in commands { try printer.print(command.ended ?? command.started ?? records[0]) }
            return
        }
        var table = Table("STARTED", "EXIT", "TIME", "SESSION", "USER", "COMMAND")
        for command in commands {
            let started = command.started
            let fields = command.ended?.fields
            let duration = fields?["duration_ns"]?.number.map { Duration.nanoseconds(Int64($0)).shortText }
            table.add(
                started.map { shortTime($0.time, isTerminal(1)) } ?? "-",
                command.ended == nil ? "runs" : exit(fields), duration ?? "-", command.session,
                started?.fields?["user"]?.text ?? "sprite",
                started?.fields?["argv"]?.text ?? command.ended?.command ?? "-")
        }
        try table.print()
    }

    private func exit(_ fields: [String: API.LogValue]?) -> String {
        if let signal = fields?["signal"]?.text { return "SIG \(signal)" }
        if fields?["lost"] != nil { return "lost" }
        return fields?["exit_code"]?.text ?? "-"
    }

    struct Entry {
        var session: String
        var started: API.LogRecord?
        var ended: API.LogRecord?
    }

    /// Pairs beginnings and ends; numbers of sessions begin anew each time a sprite starts.
    static func commands(_ records: [API.LogRecord]) -> [Entry] {
        var entries: [Entry] = []
        var open: [String: Int] = [:]
        for record in records {
            guard let session = record.session else { continue }
            if record.event == "exec.started" {
                open[session] = entries.count
                entries.append(Entry(session: session, started: record))
            } else if let index = open.removeValue(forKey: session) {
                entries[index].ended = record
            } else {
                entries.append(Entry(session: session, ended: record))
            }
        }
        return entries
    }
}
