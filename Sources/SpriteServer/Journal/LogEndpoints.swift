// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Lines of a following reader are gathered into pieces of this size.
    private static let pieceBytes = 64 << 10
    /// Something is sent this often while nothing happens, so that a connection that is gone is noticed.
    private static let keepalive: Duration = .seconds(15)
    private static let rowsMax = 10_000
    /// A follower wants what comes more than what was.
    private static let historyPatience: Duration = .seconds(5)

    private func journal() throws -> any JournalReader {
        guard let reader = configuration.journalReader else {
            throw SpriteError(.unsupported, "cannot read logs: this server keeps no journal")
        }
        return reader
    }

    func logs(_ exchange: Exchange, of sprite: SpriteName?) async throws {
        let journal = try journal()
        var request = try await logRequest(try exchange.target.query(), of: sprite)
        if let caller = exchange.caller {
            // Inside, whatever name it has: its own and nothing else.
            request.filter.sprite = caller.sprite
            request.filter.spriteName = nil
        } else if let sprite {
            request.filter.sprite = try await identity(sprite, journal)
        }
        if request.isFollowing {
            request.asServerSentEvents =
                exchange.head.headers.first(name: "accept")?.contains("text/event-stream") == true
            // The identifier of the last event that a browser got.
            if let last = exchange.head.headers.first(name: "last-event-id").flatMap(JournalCursor.init) {
                request.cursor = last
            }
            return try await follow(exchange, journal, request)
        }
        let page = try await journal.records(
            request.filter, order: request.order, from: request.cursor, limit: request.limit)
        var body = ByteBuffer(string: "{\"records\":[")
        for (index, record) in page.records.enumerated() {
            if index > 0 { body.writeInteger(UInt8(ascii: ",")) }
            RecordText.write(record, to: &body)
        }
        body.writeString("],\"has_more\":\(page.hasMore)")
        if let next = page.next { body.writeString(",\"next_cursor\":\"\(next)\"") }
        body.writeString("}")
        try await exchange.send(.ok, ["content-type": "application/json"], body: body)
    }

    /// A sprite that was destroyed is still found by its name.
    private func identity(_ name: SpriteName, _ journal: any JournalReader) async throws -> SpriteID {
        do {
            return try await control.get(name).sprite.id
        } catch let error as SpriteError where error.code == .notFound {
            var filter = RecordFilter()
            filter.spriteName = name.rawValue
            let known = try await journal.records(filter, order: .newestFirst, from: nil, limit: 1)
            guard let id = known.records.first?.sprite else { throw error }
            return id
        }
    }

    // MARK: Following

    /// Sends what is there and then what comes: one query after another, each from where the last one ended, so that
    /// nothing is missing between history and present and nothing is sent twice.
    private func follow(_ exchange: Exchange, _ journal: any JournalReader, _ request: LogRequest) async throws {
        var request = request
        var history: [RecordView] = []
        if request.cursor == nil {
            let end = try await journal.end()
            if request.filter.since == nil {
                // The newest lines first, as `tail -f` does.
                history = try await newest(journal, request, before: end)
                request.cursor = end
            }
        }
        try await exchange.begin(
            [
                "content-type": request.asServerSentEvents ? "text/event-stream" : "application/x-ndjson",
                "cache-control": "no-cache",
            ], closing: true)
        if exchange.head.method == .HEAD { return try await exchange.end() }
        // Broken off when the client goes or the server stops; awaited right below.
        let (first, start) = (history, request)
        let work = Task {
            try await cancelWhenGracefulShutdown { try await sendAll(exchange, journal, start, first) }
        }
        exchange.client.onLeave { work.cancel() }
        let result = await withTaskCancellationHandler {
            await work.result
        } onCancel: {
            work.cancel()
        }
        exchange.client.onLeave(nil)
        if case .failure(let error) = result, !(error is CancellationError), !(error is ChannelError) { throw error }
        try? await exchange.end()
    }

    /// The newest lines, oldest first; fewer than were asked for if finding them takes too long.
    private func newest(
        _ journal: any JournalReader, _ request: LogRequest, before end: JournalCursor
    ) async throws -> [RecordView] {
        var found: [RecordView] = []
        var place: JournalCursor? = end
        let deadline = ContinuousClock.now + Self.historyPatience
        while let from = place, found.count < request.limit, ContinuousClock.now < deadline {
            let page = try await journal.records(
                request.filter, order: .newestFirst, from: from, limit: request.limit - found.count)
            found += page.records
            place = page.hasMore ? page.next : nil
        }
        return found.reversed()
    }

    private func sendAll(
        _ exchange: Exchange, _ journal: any JournalReader, _ request: LogRequest, _ history: [RecordView]
    ) async throws {
        let asEvents = request.asServerSentEvents
        try await send(history, exchange, asEvents)
        var cursor = request.cursor ?? JournalCursor(record: 0)
        while true {
            try Task.checkCancellation()
            let page = try await journal.records(request.filter, order: .oldestFirst, from: cursor, limit: 1000)
            try await send(page.records, exchange, asEvents)
            cursor = page.next ?? cursor
            if page.hasMore { continue }
            // Whichever is first; the loser is cancelled.
            let isNews = try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask { [cursor] in
                    try await journal.waitForChange(after: cursor)
                    return true
                }
                group.addTask {
                    try await Task.sleep(for: Self.keepalive)
                    return false
                }
                defer { group.cancelAll() }
                return try await group.next() ?? false
            }
            if !isNews {
                try await exchange.write([
                    ByteBuffer(string: asEvents ? ": still here\n\n" : "{\"cursor\":\"\(cursor)\"}\n")
                ])
            }
        }
    }

    private func send(_ records: [RecordView], _ exchange: Exchange, _ asEvents: Bool) async throws {
        var buffer = ByteBuffer()
        for record in records {
            if asEvents { buffer.writeString("id: \(record.cursor.next)\ndata: ") }
            RecordText.write(record, to: &buffer)
            buffer.writeString(asEvents ? "\n\n" : "\n")
            if buffer.readableBytes >= Self.pieceBytes {
                try await exchange.write([buffer])
                buffer = ByteBuffer()
            }
        }
        if buffer.readableBytes > 0 { try await exchange.write([buffer]) }
    }

    // MARK: Traces, SQL, measures

    func trace(_ exchange: Exchange, _ text: String, of sprite: SpriteName?) async throws {
        guard let id = TraceID(text) else {
            throw SpriteError(.invalidRequest, "invalid trace id: it has 32 hexadecimal digits")
        }
        let journal = try journal()
        var spans = try await journal.spans(id)
        if let sprite {
            let identity = try await identity(sprite, journal)
            spans.removeAll { $0.span.sprite != identity }
        }
        guard !spans.isEmpty else {
            let owner = sprite.map { " of sprite '\($0)'" } ?? ""
            throw SpriteError(.notFound, "no trace \(id)\(owner) is known; traces are kept as long as logs")
        }
        var body = ByteBuffer(string: "{\"trace_id\":\"\(id)\",\"spans\":[")
        for (index, span) in spans.enumerated() {
            if index > 0 { body.writeInteger(UInt8(ascii: ",")) }
            RecordText.write(span, to: &body)
        }
        body.writeString("]}")
        try await exchange.send(.ok, ["content-type": "application/json"], body: body)
    }

    func queryLogs(_ exchange: Exchange) async throws {
        struct Question: Decodable {
            var sql: String
            var limit: Int?
        }
        let question = try await exchange.requiredBody(Question.self)
        if let limit = question.limit, !(1...Self.rowsMax).contains(limit) {
            throw SpriteError(
                .invalidRequest, "invalid limit: it is \(limit), use a number from 1 to \(Self.rowsMax)")
        }
        let answer = try await journal().query(question.sql, rowsMax: question.limit ?? 1000)
        var body = ByteBuffer(string: "{\"columns\":[")
        body.writeString(answer.columns.map(JSONText.quoted).joined(separator: ","))
        body.writeString("],\"rows\":[")
        for (index, row) in answer.rows.enumerated() {
            body.writeString((index > 0 ? ",[" : "[") + row.map(RecordText.value).joined(separator: ",") + "]")
        }
        body.writeString("],\"truncated\":\(answer.isTruncated)}")
        try await exchange.send(.ok, ["content-type": "application/json"], body: body)
    }

    func metrics(_ exchange: Exchange) async throws {
        guard let metrics = configuration.metrics else {
            throw SpriteError(.notFound, "this server keeps no measures")
        }
        try await exchange.send(
            .ok, ["content-type": "text/plain; version=0.0.4; charset=utf-8"],
            body: ByteBuffer(string: await metrics()))
    }
}

extension JournalCursor {
    /// Right behind this line.
    var next: JournalCursor { JournalCursor(record: record, line: line + 1) }
}
