// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDBSQLite
import Glibc
import SpriteDomain

/// Reads one page of lines, on one connection, in one snapshot of the database.
struct PageReader {
    /// A search that finds little gives an answer after this long, and says where to go on.
    static let patience: Duration = .milliseconds(1000)
    /// Records are looked at in slices, so that it is always known how far a search came. A slice is as long as what can be
    /// looked at in a small part of the patience, and longer where there is nothing to see.
    private static let firstSlice: Int64 = 16_384
    private static let sliceMin: Int64 = 256
    private static let sliceTime: Duration = .milliseconds(100)
    /// Of SQLite for one slice, which takes milliseconds: the disk does not answer.
    private static let patienceWithSQLite: Duration = .seconds(20)
    private static let columns =
        "r.id, r.time, r.sprite, r.kind, r.level, r.source, r.flags, r.trace, r.event, r.text, r.fields"

    let connection: Connection
    let filter: RecordFilter
    let matcher: LineMatcher
    let order: RecordOrder
    let limit: Int

    private var low: Int64 = 1
    private var high: Int64 = 0
    private var indexed: Int64 = 0
    private var sprites: [Int64] = []
    private var sources: [Int64: SourceRow] = [:]
    private var names: [Int64: (id: SpriteID?, name: String)] = [:]
    private var cursor: JournalCursor?
    private var found: [RecordView] = []
    private var next: JournalCursor?
    private var deadline = ContinuousClock.now + PageReader.patience
    private var isExhausted = true

    private struct SourceRow {
        var stream: String?
        var session: String?
        var service: String?
        var command: String?
        var checkpoint: String?
    }

    init(
        _ connection: Connection, _ filter: RecordFilter, _ matcher: LineMatcher, order: RecordOrder,
        from cursor: JournalCursor?, limit: Int
    ) {
        self.connection = connection
        self.filter = filter
        self.matcher = matcher
        self.order = order
        self.limit = limit
        self.cursor = cursor
    }

    mutating func read() throws -> RecordPage {
        try connection.execute("BEGIN")
        defer { try? connection.execute("COMMIT") }
        let newest = try connection.number("SELECT max(id) FROM records") ?? 0
        indexed = try connection.number("SELECT value FROM state WHERE name = 'indexed'") ?? 0
        high = newest
        guard try narrow() else { return RecordPage(records: [], next: end(newest), hasMore: false) }
        for part in parts() {
            try read(part)
            if !isExhausted { break }
        }
        if isExhausted { next = end(newest) }
        return RecordPage(records: found, next: next, hasMore: !isExhausted)
    }

    /// Where to go on once everything was looked at.
    private func end(_ newest: Int64) -> JournalCursor {
        if order == .newestFirst { return JournalCursor(record: 0) }
        let end = JournalCursor(record: newest + 1)
        return max(end, cursor ?? end)
    }

    // MARK: Where to look

    /// Finds the numbers between which the wanted records lie; false if there are none.
    private mutating func narrow() throws -> Bool {
        if let cursor {
            if order == .oldestFirst {
                low = max(low, cursor.record)
            } else {
                high = min(high, cursor.line > 0 ? cursor.record : cursor.record - 1)
            }
        }
        if let since = filter.since {
            let first = try connection.number(
                "SELECT first FROM marks WHERE latest >= \(since.nanoseconds) ORDER BY first LIMIT 1")
            guard let first else { return false }
            low = max(low, first)
        }
        if let until = filter.until {
            let last = try connection.number(
                "SELECT last FROM marks WHERE earliest < \(until.nanoseconds) ORDER BY first DESC LIMIT 1")
            guard let last else { return false }
            high = min(high, last)
        }
        if filter.sprite != nil || filter.spriteName != nil {
            let statement = try connection.statement("SELECT key FROM sprites WHERE id = ?1 OR name = ?2")
            statement.bind(1, filter.sprite?.rawValue)
            statement.bind(2, filter.sprite == nil ? filter.spriteName : nil)
            while try statement.step() { sprites.append(statement.number(0)) }
            statement.reset()
            guard !sprites.isEmpty else { return false }
        }
        if filter.session != nil || filter.service != nil {
            let statement = try connection.statement(
                """
                SELECT min(first), max(last) FROM sources WHERE (?1 IS NULL OR session = ?1) AND (?2 IS NULL OR service = ?2)
                AND (?3 IS NULL OR sprite = ?3)
                """)
            statement.bind(1, filter.session)
            statement.bind(2, filter.service)
            statement.bind(3, sprites.count == 1 ? sprites[0] : nil)
            defer { statement.reset() }
            guard try statement.step(), let first = statement.optionalNumber(0) else { return false }
            (low, high) = (max(low, first), min(high, statement.number(1)))
        }
        return low <= high
    }

    private struct Part {
        var range: ClosedRange<Int64>
        var usesIndex: Bool
    }

    /// What the full-text index does not hold yet is looked at line by line, so that an answer is always complete.
    private func parts() -> [Part] {
        guard !matcher.words.isEmpty else { return [Part(range: low...high, usesIndex: false)] }
        var parts: [Part] = []
        if low <= min(high, indexed) { parts.append(Part(range: low...min(high, indexed), usesIndex: true)) }
        if max(low, indexed + 1) <= high { parts.append(Part(range: max(low, indexed + 1)...high, usesIndex: false)) }
        return order == .oldestFirst ? parts : parts.reversed()
    }

    /// The question, and the place of its first number: the first and the last record to look at.
    private func statement(_ part: Part) throws -> (statement: Statement, place: Int32) {
        var conditions: [String] = []
        var parameters: [Parameter] = []
        let onlyEvents = !filter.events.isEmpty || !filter.kinds.isEmpty && !filter.kinds.contains(.process)
        var from: String
        var number = "r.id"
        if part.usesIndex {
            from = "words CROSS JOIN records r ON r.id = words.rowid"
            number = "words.rowid"
            conditions.append("words MATCH ?")
            parameters.append(.text(matcher.indexQuestion))
        } else if filter.trace != nil {
            from = "records r INDEXED BY records_traces"
        } else if sprites.count == 1 {
            from = "records r INDEXED BY \(onlyEvents ? "records_sprite_events" : "records_sprites")"
        } else {
            from = onlyEvents ? "records r INDEXED BY records_events" : "records r NOT INDEXED"
        }
        if let trace = filter.trace {
            conditions.append("r.trace IS NOT NULL AND r.trace = ?")
            parameters.append(.blob(trace.bytes))
        }
        let first = parameters.count + 1
        conditions.append("\(number) BETWEEN ?\(first) AND ?\(first + 1)")
        parameters += [.number(part.range.lowerBound), .number(part.range.upperBound)]
        if sprites.count == 1 {
            conditions.append("r.sprite = \(sprites[0])")
        } else if !sprites.isEmpty {
            conditions.append("r.sprite IN (\(sprites.map(String.init).joined(separator: ",")))")
        }
        if onlyEvents { conditions.append("r.event IS NOT NULL") }
        if !filter.kinds.isEmpty {
            conditions.append("r.kind IN (\(filter.kinds.map { "\($0.rawValue)" }.joined(separator: ",")))")
        }
        if !filter.events.isEmpty {
            conditions.append("r.event IN (\(filter.events.map { _ in "?" }.joined(separator: ",")))")
            parameters += filter.events.map { .text($0) }
        }
        if let level = filter.level { conditions.append("r.level >= \(level.rawValue)") }
        if let since = filter.since { conditions.append("r.time >= \(since.nanoseconds)") }
        if let until = filter.until { conditions.append("r.time < \(until.nanoseconds)") }
        let statement = try connection.prepare(
            """
            SELECT \(Self.columns) FROM \(from) WHERE \(conditions.joined(separator: " AND "))
            ORDER BY \(number)\(order == .newestFirst ? " DESC" : "")
            """)
        statement.bind(parameters)
        return (statement, Int32(first))
    }

    // MARK: Rows

    private mutating func read(_ part: Part) throws {
        let (statement, place) = try statement(part)
        connection.interrupt(after: .now + Self.patienceWithSQLite)
        defer { connection.interrupt(after: nil) }
        var rest = part.range
        var length = Self.firstSlice
        while true {
            let begin = ContinuousClock.now
            let slice =
                order == .oldestFirst
                ? rest.lowerBound...min(rest.upperBound, rest.lowerBound + length - 1)
                : max(rest.lowerBound, rest.upperBound - length + 1)...rest.upperBound
            sqlite3_reset(statement.handle)
            statement.bind(place, slice.lowerBound)
            statement.bind(place + 1, slice.upperBound)
            try read(slice, statement)
            guard isExhausted else { return }
            let isLast =
                order == .oldestFirst ? slice.upperBound == rest.upperBound : slice.lowerBound == rest.lowerBound
            if isLast { return }
            rest =
                order == .oldestFirst
                ? (slice.upperBound + 1)...rest.upperBound : rest.lowerBound...(slice.lowerBound - 1)
            let now = ContinuousClock.now
            if now >= deadline {
                return goOn(from: order == .oldestFirst ? rest.lowerBound : slice.lowerBound)
            }
            if now - begin < Self.sliceTime / 8 { length *= 4 }
            if now - begin > Self.sliceTime { length = max(Self.sliceMin, length / 4) }
        }
    }

    private mutating func read(_ slice: ClosedRange<Int64>, _ statement: Statement) throws {
        do {
            var rows = 0
            while try statement.step() {
                try take(statement)
                if !isExhausted { return }
                rows += 1
                guard rows % 64 == 0, ContinuousClock.now >= deadline else { continue }
                let last = statement.number(0)
                return goOn(from: order == .oldestFirst ? last + 1 : last)
            }
        } catch let error as SQLiteError where error.code & 0xFF == SQLITE_INTERRUPT {
            throw SpriteError(.timeout, "cannot read the journal: its disk does not answer in time")
        }
    }

    /// The patience is over.
    private mutating func goOn(from record: Int64) {
        isExhausted = false
        next = JournalCursor(record: record)
    }

    private mutating func take(_ row: Statement) throws {
        let id = row.number(0)
        let source = try row.optionalNumber(5).map { try sourceRow($0) }
        guard isWanted(source), let text = row.bytes(9) else { return }
        let flags = row.number(6)
        guard flags & RecordFlags.block != 0 else {
            return try takeLine(row, id, 0, text, source, isPartial: flags & RecordFlags.partial != 0)
        }
        var lines: [UnsafeRawBufferPointer] = []
        var start = 0
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: text[start...])
            guard let end = rest.firstIndex(of: 0x0A) else {
                lines.append(rest)
                break
            }
            let line = end > 0 && rest[end - 1] == 0x0D ? rest[..<(end - 1)] : rest[..<end]
            lines.append(UnsafeRawBufferPointer(rebasing: line))
            start += end + 1
        }
        let numbered = Array(lines.enumerated())
        for (index, line) in order == .oldestFirst ? numbered : numbered.reversed() {
            try takeLine(row, id, Int32(index), line, source, isPartial: false)
            if !isExhausted { return }
        }
    }

    private func isWanted(_ source: SourceRow?) -> Bool {
        if !filter.streams.isEmpty, !(source?.stream.map(filter.streams.contains) ?? false) { return false }
        if let session = filter.session, source?.session != session { return false }
        if let service = filter.service, source?.service != service { return false }
        return true
    }

    private mutating func takeLine(
        _ row: Statement, _ id: Int64, _ line: Int32, _ text: UnsafeRawBufferPointer, _ source: SourceRow?,
        isPartial: Bool
    ) throws {
        let place = JournalCursor(record: id, line: line)
        if let cursor, order == .oldestFirst ? place < cursor : place >= cursor { return }
        guard !matcher.isNeeded || matcher.matches(text) else { return }
        guard found.count < limit else {
            isExhausted = false
            next = order == .oldestFirst ? place : found.last?.cursor
            return
        }
        let sprite = try row.optionalNumber(2).map { try name($0) }
        found.append(
            RecordView(
                cursor: place, time: Timestamp(nanoseconds: row.number(1)), sprite: sprite?.id,
                spriteName: sprite?.name, kind: RecordKind(rawValue: UInt8(clamping: row.number(3))) ?? .system,
                level: RecordLevel(rawValue: UInt8(clamping: row.number(4))) ?? .info, event: row.text(8),
                stream: source?.stream, session: source?.session, service: source?.service, command: source?.command,
                trace: row.bytes(7).flatMap(TraceID.init(bytes:)), checkpoint: source?.checkpoint,
                text: String(decoding: text, as: UTF8.self), fields: row.text(10), isPartial: isPartial))
    }

    private mutating func sourceRow(_ key: Int64) throws -> SourceRow {
        if let known = sources[key] { return known }
        let statement = try connection.statement(
            "SELECT stream, session, service, command, checkpoint FROM sources WHERE key = ?")
        statement.bind(1, key)
        var row = SourceRow()
        if try statement.step() {
            row = SourceRow(
                stream: statement.text(0), session: statement.text(1), service: statement.text(2),
                command: statement.text(3), checkpoint: statement.text(4))
        }
        statement.reset()
        if sources.count > 10_000 { sources = [:] }
        sources[key] = row
        return row
    }

    private mutating func name(_ key: Int64) throws -> (id: SpriteID?, name: String) {
        if let known = names[key] { return known }
        let statement = try connection.statement("SELECT id, name FROM sprites WHERE key = ?")
        statement.bind(1, key)
        var row: (SpriteID?, String) = (nil, "")
        if try statement.step() { row = (statement.text(0).flatMap(SpriteID.init(rawValue:)), statement.text(1) ?? "") }
        statement.reset()
        names[key] = row
        return row
    }
}

extension TraceID {
    init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 16 else { return nil }
        self.init(
            high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
            low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
}
