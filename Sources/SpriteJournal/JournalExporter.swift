// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import AsyncHTTPClient
package import Logging
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteDomain

/// Sends records and spans to a collector over OTLP/HTTP in JSON, each at least once, in order.
///
/// Reads the journal from where it stopped, also after a restart; nothing waits for the collector.
package struct JournalExporter: Service {
    private static let batch = 512
    private static let pauseMax: Duration = .seconds(60)
    private static let timeout: TimeAmount = .seconds(15)

    private let store: JournalStore
    private let endpoint: String
    private let headers: [(String, String)]
    private let logger: Logger

    /// - Parameters:
    ///   - endpoint: Such as `http://127.0.0.1:4318`; `/v1/logs` and `/v1/traces` are added.
    ///   - headers: Such as `authorization=Bearer x,tenant=1`.
    package init(_ store: JournalStore, endpoint: String, headers: String?, logger: Logger) throws {
        guard endpoint.hasPrefix("http://") || endpoint.hasPrefix("https://") else {
            throw SpriteError(
                .invalidRequest, "cannot export to '\(endpoint)': write a URL such as http://127.0.0.1:4318")
        }
        self.store = store
        self.endpoint = endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
        self.headers = try (headers ?? "").split(separator: ",").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, parts.allSatisfy({ $0.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F } }) else {
                throw SpriteError(.invalidRequest, "cannot export: otlp_headers is not of the form NAME=VALUE,…")
            }
            return (String(parts[0]), String(parts[1]))
        }
        self.logger = logger
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await export("otlp_logs", "/v1/logs") { try await logs(after: $0) } }
                group.addTask { await export("otlp_spans", "/v1/traces") { try await spans(after: $0) } }
            }
        }
    }

    /// One batch: what to send, and up to where it goes.
    private struct Batch: Sendable {
        var body: String
        var last: Int64
        var count: Int
    }

    private func export(_ state: String, _ path: String, _ next: (Int64) async throws -> Batch?) async {
        var failures = 0
        var cursor: Int64?
        while !Task.isCancelled {
            do {
                let position: Int64
                if let cursor { position = cursor } else { position = try await begin(state) }
                cursor = position
                guard let batch = try await next(position) else {
                    try await Task.sleep(for: .milliseconds(500))
                    continue
                }
                try await send(batch, path)
                cursor = batch.last
                store.mailbox.leave(.state(state, batch.last))
                store.shared.metrics.count("exported", batch.count)
                failures = 0
            } catch is CancellationError {
                return
            } catch {
                failures += 1
                if failures == 1 { logger.warning("records are not exported", metadata: ["error": "\(error)"]) }
                let pause = min(Self.pauseMax, .milliseconds(500) * (1 << min(failures, 7)))
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// Where the last run stopped; the first begins with what comes.
    private func begin(_ state: String) async throws -> Int64 {
        let newest = state == "otlp_logs" ? "SELECT max(id) FROM records" : "SELECT max(key) FROM spans"
        let position = try await store.readers.read { connection in
            let known = try connection.number("SELECT value FROM state WHERE name = '\(state)'")
            return try known ?? connection.number(newest) ?? 0
        }
        store.mailbox.leave(.state(state, position))
        return position
    }

    private func send(_ batch: Batch, _ path: String) async throws {
        var request = HTTPClientRequest(url: endpoint + path)
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        request.body = .bytes(ByteBuffer(string: batch.body))
        let response = try await HTTPClient.shared.execute(request, timeout: Self.timeout)
        _ = try? await response.body.collect(upTo: 1 << 20)
        let status = Int(response.status.code)
        guard status >= 300 else { return }
        // These ask to come again; anything else would be refused for ever.
        if status == 429 || status == 408 || status >= 500 {
            throw SpriteError(.unavailable, "the collector answered \(status)")
        }
        store.shared.metrics.count("export_refused", batch.count)
        logger.error("the collector refused records", metadata: ["status": "\(status)", "count": "\(batch.count)"])
    }

    // MARK: Batches

    private static let resource = """
        "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sprited"}}]}
        """

    private func logs(after id: Int64) async throws -> Batch? {
        let page = try await store.records(
            RecordFilter(), order: .oldestFirst, from: JournalCursor(record: id + 1), limit: Self.batch)
        guard let last = page.records.last else { return nil }
        // Rows of several lines are sent whole or not at all.
        var records = page.records
        var end = last.cursor.record
        if page.hasMore, records.first?.cursor.record != end {
            records.removeAll { $0.cursor.record == end }
            end -= 1
        } else if page.hasMore {
            records = try await store.records(
                RecordFilter(), order: .oldestFirst, from: JournalCursor(record: end), limit: 20_000
            ).records.filter { $0.cursor.record == end }
        }
        let body = records.map(logRecord).joined(separator: ",")
        return Batch(
            body: """
                {"resourceLogs":[{\(Self.resource),"scopeLogs":[{"scope":{"name":"sprited"},"logRecords":[\(body)]}]}]}
                """,
            last: end, count: records.count)
    }

    private func logRecord(_ record: RecordView) -> String {
        var attributes: [String] = []
        func add(_ name: String, _ value: String?) {
            if let value {
                attributes.append("{\"key\":\"\(name)\",\"value\":{\"stringValue\":\(JSONText.quoted(value))}}")
            }
        }
        add("sprite.name", record.spriteName)
        add("sprite.id", record.sprite?.rawValue)
        add("sprite.kind", record.kind.text)
        add("event.name", record.event)
        add("log.iostream", record.stream)
        add("sprite.session", record.session)
        add("sprite.service", record.service)
        add("process.command", record.command)
        add("sprite.checkpoint", record.checkpoint)
        add("sprite.fields", record.fields)
        let severity: (number: Int, text: String) =
            switch record.level {
            case .debug: (5, "DEBUG")
            case .info: (9, "INFO")
            case .warning: (13, "WARN")
            case .error: (17, "ERROR")
            }
        let trace = record.trace.map { ",\"traceId\":\"\($0)\"" } ?? ""
        return """
            {"timeUnixNano":"\(record.time.nanoseconds)","severityNumber":\(severity.number),\
            "severityText":"\(severity.text)","body":{"stringValue":\(JSONText.quoted(record.text))},\
            "attributes":[\(attributes.joined(separator: ","))]\(trace)}
            """
    }

    private func spans(after key: Int64) async throws -> Batch? {
        try await store.readers.read { connection in
            let statement = try connection.statement(
                """
                SELECT p.key, p.trace, p.id, p.parent, p.name, p.start, p.duration, p.error, p.attributes, s.name
                FROM spans p LEFT JOIN sprites s ON s.key = p.sprite WHERE p.key > ? ORDER BY p.key LIMIT \(Self.batch)
                """)
            statement.bind(1, key)
            defer { statement.reset() }
            var last = key
            var spans: [String] = []
            while try statement.step() {
                last = statement.number(0)
                guard let trace = statement.bytes(1).flatMap(TraceID.init(bytes:)),
                    let id = SpanID(value: UInt64(bitPattern: statement.number(2)))
                else { continue }
                let parent = statement.optionalNumber(3).flatMap { SpanID(value: UInt64(bitPattern: $0)) }
                let start = statement.number(5)
                let name = statement.text(4) ?? ""
                var attributes: [String] = []
                if let sprite = statement.text(9) {
                    attributes.append(
                        "{\"key\":\"sprite.name\",\"value\":{\"stringValue\":\(JSONText.quoted(sprite))}}")
                }
                if let more = statement.text(8) {
                    attributes.append(
                        "{\"key\":\"sprite.attributes\",\"value\":{\"stringValue\":\(JSONText.quoted(more))}}")
                }
                let status =
                    statement.text(7).map { ",\"status\":{\"code\":2,\"message\":\(JSONText.quoted($0))}" } ?? ""
                spans.append(
                    """
                    {"traceId":"\(trace)","spanId":"\(id)"\(parent.map { ",\"parentSpanId\":\"\($0)\"" } ?? ""),\
                    "name":\(JSONText.quoted(name)),"kind":\(name.hasPrefix("http.") ? 2 : 1),"startTimeUnixNano":"\(start)",\
                    "endTimeUnixNano":"\(start + statement.number(6))",\
                    "attributes":[\(attributes.joined(separator: ","))]\(status)}
                    """)
            }
            guard !spans.isEmpty else { return nil }
            return Batch(
                body: """
                    {"resourceSpans":[{\(Self.resource),"scopeSpans":[{"scope":{"name":"sprited"},\
                    "spans":[\(spans.joined(separator: ","))]}]}]}
                    """,
                last: last, count: spans.count)
        }
    }
}
