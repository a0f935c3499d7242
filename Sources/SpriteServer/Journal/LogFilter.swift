// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

/// What a request for logs asks.
struct LogRequest {
    static let limitDefault = 100
    static let limitMax = 10_000

    var filter = RecordFilter()
    var order = RecordOrder.newestFirst
    var limit = LogRequest.limitDefault
    var cursor: JournalCursor?
    var isFollowing = false
    var asServerSentEvents = false
}

extension APIService {
    /// Reads a query; every parameter that is not known is refused, so that a misspelt filter does not pass unnoticed.
    func logRequest(_ query: API.Query, of sprite: SpriteName?) async throws -> LogRequest {
        var request = LogRequest()
        var isOrdered = false
        for item in query.items where !item.value.isEmpty {
            let value = item.value
            switch item.name {
            case "since": request.filter.since = try await time(value, "since", sprite)
            case "until": request.filter.until = try await time(value, "until", sprite)
            case "kind":
                for text in value.split(separator: ",") {
                    guard let kind = RecordKind(text: String(text)) else {
                        throw invalid("kind", value, RecordKind.allCases.map(\.text).joined(separator: ", "))
                    }
                    request.filter.kinds.insert(kind)
                }
            case "event": request.filter.events.formUnion(value.split(separator: ",").prefix(50).map(String.init))
            case "stream":
                for text in value.split(separator: ",") {
                    guard text == "stdout" || text == "stderr" else { throw invalid("stream", value, "stdout, stderr") }
                    request.filter.streams.insert(String(text))
                }
            case "service": request.filter.service = value
            case "session": request.filter.session = value
            case "level":
                guard let level = RecordLevel(text: value) else {
                    throw invalid("level", value, RecordLevel.allCases.map(\.text).joined(separator: ", "))
                }
                request.filter.level = level
            case "trace":
                guard let trace = TraceID(value) else { throw invalid("trace", value, "32 hexadecimal digits") }
                request.filter.trace = trace
            case "sprite" where sprite == nil: request.filter.spriteName = value
            case "q": request.filter.words = value
            case "regex": request.filter.pattern = value
            case "limit":
                guard let limit = Int(value), (1...LogRequest.limitMax).contains(limit) else {
                    throw invalid("limit", value, "a number from 1 to \(LogRequest.limitMax)")
                }
                request.limit = limit
            case "order":
                guard value == "asc" || value == "desc" else { throw invalid("order", value, "asc or desc") }
                request.order = value == "asc" ? .oldestFirst : .newestFirst
                isOrdered = true
            case "cursor":
                guard let cursor = JournalCursor(value) else {
                    throw invalid("cursor", value, "a cursor of an earlier answer")
                }
                request.cursor = cursor
            case "follow":
                guard value == "true" || value == "false" else { throw invalid("follow", value, "true or false") }
                request.isFollowing = value == "true"
            default:
                throw SpriteError(
                    .invalidRequest, "invalid query: there is no parameter '\(item.name.prefix(40))' of logs")
            }
        }
        if request.isFollowing, isOrdered, request.order == .newestFirst {
            throw SpriteError(.invalidRequest, "invalid query: 'follow' goes forward, so that 'order' cannot be desc")
        }
        // Checked here, so that a stream does not break off with it.
        if let words = request.filter.words,
            !words.unicodeScalars.contains(where: { $0.properties.isAlphabetic || $0.properties.numericType != nil })
        {
            throw invalid("q", words, "words of letters and digits")
        }
        return request
    }

    private func invalid(_ name: String, _ value: String, _ wanted: String) -> SpriteError {
        SpriteError(.invalidRequest, "invalid query: '\(name)' is '\(value.prefix(40))', use \(wanted)")
    }

    /// A time, how long ago, or the time of a checkpoint.
    private func time(_ text: String, _ name: String, _ sprite: SpriteName?) async throws -> Timestamp {
        if let nanoseconds = API.TimeText.nanoseconds(text) { return Timestamp(nanoseconds: nanoseconds) }
        if let days = text.hasSuffix("d") ? Int64(text.dropLast()) : nil, (0...100_000).contains(days) {
            return Timestamp(nanoseconds: Timestamp.now().nanoseconds - days * 86_400_000_000_000)
        }
        if let duration = API.DurationText.parse(text) {
            let parts = duration.components
            let nanoseconds = parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
            return Timestamp(nanoseconds: Timestamp.now().nanoseconds - nanoseconds)
        }
        if let sprite, let checkpoint = CheckpointID(text) {
            return try await control.checkpoint(sprite, checkpoint).createdAt
        }
        throw invalid(
            name, text, "a time such as 2026-01-31T12:00:00Z, how long ago such as 10m, or a checkpoint of the sprite")
    }
}
