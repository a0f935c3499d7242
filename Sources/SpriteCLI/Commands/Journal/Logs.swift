// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Logs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Show what a sprite printed and what happened to it.",
        discussion: """
            Shows the newest lines, or with --since all from then on. Times are 10m, 2h, 3d for how long ago, \
            2026-01-31T12:00:00Z, or a checkpoint's id. Control characters in output are made visible on a terminal; \
            --raw keeps them.
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "All sprites, and the server itself.")
    var all = false
    @Flag(name: [.customShort("f"), .long], help: "Go on with what comes.")
    var follow = false
    @Option(
        name: [.customShort("n"), .customLong("lines")], help: "How many lines. (default: 100, or all with --since)")
    var lines: Int?
    @Option(help: "Only from this time on.")
    var since: String?
    @Option(help: "Only up to this time.")
    var until: String?
    @Option(help: "process, api, checkpoint or system; several with commas. (default: process)")
    var kind: String?
    @Option(help: "Only this service.")
    var service: String?
    @Option(help: "Only this session.")
    var session: String?
    @Flag(name: .customLong("stderr"), help: "Only standard error.")
    var standardError = false
    @Option(help: "Only of this level and above: debug, info, warn or error.")
    var level: String?
    @Option(help: "Only lines that this regular expression matches; (?i) in front of it ignores case.")
    var grep: String?
    @Option(help: "Only lines with all of these words; fast also among many million lines.")
    var search: String?
    @Flag(help: "Print records as JSON, one a line.")
    var json = false
    @Option(help: "Ask the journal in SQL instead; docs/journal.md describes its tables.")
    var sql: String?
    @Flag(help: "Print output as it is, control characters included.")
    var raw = false

    func run() async throws {
        let context = try Context(global)
        let client = try context.client()
        if let sql { return try await ask(client, sql) }
        let sprite = all ? nil : try context.spriteName()
        let printer = RecordPrinter(isTerminal: isTerminal(1), isRaw: raw, isJSON: json, showsSprite: all)
        if let lines, lines < 0 { throw UsageError("-n \(lines): give a number from 0 on") }
        if follow { return try await follow(client, sprite, printer) }
        if since != nil, lines == nil { return try await everything(client, sprite, printer) }
        // Newest first, so that the number is of the newest; printed the other way round.
        for record in try await client.newestLogs(lines ?? 100, sprite: sprite, filters).reversed() {
            try printer.print(record)
        }
    }

    private var filters: API.Query {
        var query = API.Query()
        func add(_ name: String, _ value: String?) {
            if let value { query.items.append(.init(name, value)) }
        }
        add("since", since)
        add("until", until)
        // Of all sprites, or where something is searched by level, what happened matters as much as what was printed.
        add("kind", kind ?? (all || level != nil || json ? nil : "process"))
        add("service", service)
        add("session", session)
        add("stream", standardError ? "stderr" : nil)
        add("level", level)
        add("regex", grep)
        add("q", search)
        return query
    }

    private func everything(_ client: SpritesClient, _ sprite: String?, _ printer: RecordPrinter) async throws {
        var cursor: String?
        while true {
            var query = filters
            query.items += [.init("order", "asc"), .init("limit", "10000")]
            if let cursor { query.items.append(.init("cursor", cursor)) }
            let page = try await client.logs(sprite: sprite, query)
            for record in page.records { try printer.print(record) }
            guard page.hasMore, let next = page.nextCursor else { return }
            cursor = next
        }
    }

    /// Goes on behind the last record that came after the connection was lost.
    private func follow(_ client: SpritesClient, _ sprite: String?, _ printer: RecordPrinter) async throws {
        let place = FollowedPlace()
        var failures = 0
        while true {
            var query = filters
            if let cursor = place.cursor {
                query.items.removeAll { $0.name == "since" }
                query.items.append(.init("cursor", cursor))
            } else if lines == 0 {
                query.items.append(.init("since", "0s"))
            } else if since == nil {
                query.items.append(.init("limit", "\(min(10_000, lines ?? 100))"))
            }
            do {
                try await client.followLogs(sprite: sprite, query) { record in
                    place.cursor = record.cursor
                    do {
                        try printer.print(record)
                    } catch {
                        // Of our own output; the connection has nothing to do with it.
                        place.failure = error
                        throw error
                    }
                }
                failures = 0
            } catch let error as SpritesError where [.connectionLost, .cannotConnect].contains(error.code) {
                if let failure = place.failure { throw failure }
                failures += 1
                guard failures <= 60, place.cursor != nil || error.code == .connectionLost else { throw error }
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private func ask(_ client: SpritesClient, _ sql: String) async throws {
        let answer = try await client.queryLogs(sql, limit: lines)
        if json { return try printJSON(answer) }
        var table = Table(columns: answer.columns)
        for row in answer.rows { table.add(row: row.map(\.text)) }
        try table.print()
        if answer.truncated { printNote("there are more rows; -n sets how many are shown") }
    }
}

/// Where a following reader is. Used by one task.
private final class FollowedPlace {
    var cursor: String?
    var failure: (any Error)?
}

extension SpritesClient {
    /// The newest records, newest first, page by page: a search that finds little comes in several.
    func newestLogs(_ wanted: Int, sprite: String?, _ filters: API.Query) async throws -> [API.LogRecord] {
        var found: [API.LogRecord] = []
        var cursor: String?
        while found.count < wanted {
            var page = filters
            page.items += [.init("order", "desc"), .init("limit", "\(min(10_000, wanted - found.count))")]
            if let cursor { page.items.append(.init("cursor", cursor)) }
            let answer = try await logs(sprite: sprite, page)
            found += answer.records
            guard answer.hasMore, let next = answer.nextCursor else { break }
            cursor = next
        }
        return found
    }
}
