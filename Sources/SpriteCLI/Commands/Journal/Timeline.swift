// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Timeline: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "timeline", abstract: "Show commands and checkpoints in one column of time.")

    @OptionGroup var global: GlobalOptions

    @Option(name: [.customShort("n"), .customLong("lines")], help: "How many entries.")
    var lines = 50
    @Option(help: "Only from this time on: 10m, a time, or a checkpoint.")
    var since: String?

    func run() async throws {
        guard (1...5000).contains(lines) else { throw UsageError("-n \(lines): give a number from 1 to 5000") }
        let context = try Context(global)
        let name = try context.spriteName()
        var query = API.Query([
            .init(
                "event",
                "exec.started,exec.ended,checkpoint.created,checkpoint.deleted,checkpoint.failed,sprite.restored,"
                    + "sprite.forked,sprite.created,sprite.started,sprite.stopped,sprite.crashed,sprite.destroyed")
        ])
        if let since { query.items.append(.init("since", since)) }
        // A checkpoint is on record a moment after it was answered: a command that started since may stand before it.
        let records = try await context.client().newestLogs(lines * 2, sprite: name, query).reversed()
            .enumerated().sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
        var shown: [String] = []
        var ends: [String: API.LogRecord] = [:]
        for command in History.commands(records.filter { $0.event?.hasPrefix("exec.") == true }) {
            if let started = command.started, let ended = command.ended { ends[started.id] = ended }
        }
        let paired = Set(ends.values.map(\.id))
        for record in records where !paired.contains(record.id) {
            let time = shortTime(record.time, isTerminal(1))
            let line: String
            switch record.event {
            case "exec.started":
                let end = ends[record.id]
                let code = end?.fields?["exit_code"]?.text
                let duration = end?.fields?["duration_ns"]?.number.map { Duration.nanoseconds(Int64($0)).shortText }
                let result = end == nil ? "runs" : code == "0" ? "ok" : "exit \(code ?? "?")"
                line =
                    "\(time)  │  $ \(record.fields?["argv"]?.text ?? record.text)  [\(result)"
                    + (duration.map { ", \($0)" } ?? "") + "]"
            case "exec.ended": line = "\(time)  │  $ \(record.command ?? "?")  [\(record.text)]"
            case "checkpoint.created": line = "\(time)  ●  \(record.text)"
            case "sprite.restored", "sprite.forked": line = "\(time)  ↺  \(record.text)"
            default: line = "\(time)  ·  \(record.text)"
            }
            shown.append(Table.printable(line))
        }
        for line in shown.suffix(lines) { try printLine(line) }
    }
}
