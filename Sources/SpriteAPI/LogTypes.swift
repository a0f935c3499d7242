// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A line of the journal: something a process printed, or something that happened.
    public struct LogRecord: Codable, Sendable, Hashable {
        /// Its place; records are ordered by it.
        public var id: String
        /// Where to go on right behind it.
        public var cursor: String
        /// RFC 3339.
        public var time: String
        /// `process`, `api`, `checkpoint` or `system`.
        public var kind: String
        /// `debug`, `info`, `warn` or `error`.
        public var level: String
        /// The sprite's name.
        public var sprite: String?
        /// The sprite's identity, which no other sprite ever has.
        public var spriteID: String?
        /// What happened; nil for output.
        public var event: String?
        /// `stdout` or `stderr`, for output.
        public var stream: String?
        /// The session it belongs to.
        public var session: String?
        /// The service it belongs to.
        public var service: String?
        /// The command of the session.
        public var command: String?
        /// The checkpoint that the sprite's state descended from then.
        public var checkpoint: String?
        /// The trace of the request that caused it.
        public var traceID: String?
        /// The line.
        public var text: String
        /// More, by name.
        public var fields: [String: LogValue]?
        /// The line goes on in the next record of its stream.
        public var partial: Bool?

        private enum CodingKeys: String, CodingKey {
            case id, cursor, time, kind, level, sprite, event, stream, session, service, command, checkpoint, text
            case fields, partial
            case spriteID = "sprite_id"
            case traceID = "trace_id"
        }
    }

    /// A page of records.
    public struct LogPage: Codable, Sendable {
        /// The records, in the order that was asked for.
        public var records: [LogRecord]
        /// There may be more.
        public var hasMore: Bool
        /// Where to go on.
        public var nextCursor: String?

        private enum CodingKeys: String, CodingKey {
            case records
            case hasMore = "has_more"
            case nextCursor = "next_cursor"
        }
    }

    /// A trace: the steps of one request.
    public struct Trace: Codable, Sendable {
        /// Its identity.
        public var traceID: String
        /// In the order they began.
        public var spans: [Span]

        private enum CodingKeys: String, CodingKey {
            case spans
            case traceID = "trace_id"
        }
    }

    /// A step of a trace.
    public struct Span: Codable, Sendable, Hashable {
        /// Its identity within the trace.
        public var spanID: String
        /// The step that it is a part of.
        public var parentID: String?
        /// What was done.
        public var name: String
        /// The sprite it was done to.
        public var sprite: String?
        /// When it began, RFC 3339.
        public var start: String
        /// How long it took.
        public var durationMilliseconds: Double
        /// What went wrong.
        public var error: String?
        /// More, by name.
        public var attributes: [String: LogValue]?

        private enum CodingKeys: String, CodingKey {
            case name, sprite, start, error, attributes
            case spanID = "span_id"
            case parentID = "parent_id"
            case durationMilliseconds = "duration_ms"
        }
    }

    /// A question in SQL.
    public struct LogQuestion: Codable, Sendable {
        /// One statement that reads.
        public var sql: String
        /// How many rows at most.
        public var limit: Int?

        /// A question.
        public init(sql: String, limit: Int? = nil) {
            self.sql = sql
            self.limit = limit
        }
    }

    /// The answer to a question in SQL.
    public struct LogAnswer: Codable, Sendable {
        /// Names of the columns.
        public var columns: [String]
        /// The values, row by row.
        public var rows: [[LogValue]]
        /// There were more rows.
        public var truncated: Bool
    }

    /// A value of any kind.
    public enum LogValue: Codable, Sendable, Hashable {
        /// Nothing.
        case null
        /// True or false.
        case truth(Bool)
        /// A whole number.
        case integer(Int64)
        /// A number.
        case real(Double)
        /// Text.
        case text(String)
        /// Several values.
        case list([LogValue])
        /// Values by name.
        case object([String: LogValue])

        /// Reads whatever is there.
        public init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .null
            } else if let value = try? container.decode(Bool.self) {
                self = .truth(value)
            } else if let value = try? container.decode(Int64.self) {
                self = .integer(value)
            } else if let value = try? container.decode(Double.self) {
                self = .real(value)
            } else if let value = try? container.decode(String.self) {
                self = .text(value)
            } else if let value = try? container.decode([LogValue].self) {
                self = .list(value)
            } else {
                self = .object(try container.decode([String: LogValue].self))
            }
        }

        /// Writes the bare value.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .null: try container.encodeNil()
            case .truth(let value): try container.encode(value)
            case .integer(let value): try container.encode(value)
            case .real(let value): try container.encode(value)
            case .text(let value): try container.encode(value)
            case .list(let value): try container.encode(value)
            case .object(let value): try container.encode(value)
            }
        }

        /// For people.
        public var text: String {
            switch self {
            case .null: ""
            case .truth(let value): "\(value)"
            case .integer(let value): "\(value)"
            case .real(let value): "\(value)"
            case .text(let value): value
            case .list(let values): values.map(\.text).joined(separator: " ")
            case .object(let values): values.map { "\($0.key)=\($0.value.text)" }.sorted().joined(separator: " ")
            }
        }

        /// The number, if it is one.
        public var number: Double? {
            switch self {
            case .integer(let value): Double(value)
            case .real(let value): value
            default: nil
            }
        }
    }
}
