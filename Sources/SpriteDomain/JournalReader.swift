// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A place between two lines of the journal. Lines are ordered by it, whatever the clock did.
package struct JournalCursor: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The record, and which of its lines, for output that came in blocks.
    package var record: Int64
    package var line: Int32

    package init(record: Int64, line: Int32 = 0) {
        self.record = record
        self.line = line
    }

    /// Reads `123` or `123.4`.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let record = Int64(parts[0]), record >= 0,
            let line = parts.count == 2 ? Int32(parts[1]) : 0, line >= 0
        else { return nil }
        self.init(record: record, line: line)
    }

    package static func < (a: JournalCursor, b: JournalCursor) -> Bool { (a.record, a.line) < (b.record, b.line) }
    package var description: String { line == 0 ? "\(record)" : "\(record).\(line)" }
}

/// Which records are wanted; empty sets and nil mean any.
package struct RecordFilter: Sendable {
    /// Also sprites that no longer exist, by the name they had.
    package var spriteName: String?
    package var sprite: SpriteID?
    package var since: Timestamp?
    package var until: Timestamp?
    package var kinds: Set<RecordKind> = []
    package var events: Set<String> = []
    /// `stdout`, `stderr`.
    package var streams: Set<String> = []
    package var service: String?
    package var session: String?
    package var level: RecordLevel?
    package var trace: TraceID?
    /// Words that the line holds, all of them, as SQLite's full-text index sees words.
    package var words: String?
    /// A POSIX extended regular expression; `(?i)` in front of it ignores case.
    package var pattern: String?
    package init() {}
}

/// A line of the journal as it is read.
package struct RecordView: Sendable {
    package var cursor: JournalCursor
    package var time: Timestamp
    package var sprite: SpriteID?
    package var spriteName: String?
    package var kind: RecordKind
    package var level: RecordLevel
    package var event: String?
    package var stream: String?
    package var session: String?
    package var service: String?
    package var command: String?
    package var trace: TraceID?
    /// The checkpoint the sprite's state descended from then.
    package var checkpoint: String?
    package var text: String
    /// A JSON object.
    package var fields: String?
    /// The line goes on in the next record of its stream.
    package var isPartial: Bool

    package init(
        cursor: JournalCursor, time: Timestamp, sprite: SpriteID?, spriteName: String?, kind: RecordKind,
        level: RecordLevel, event: String?, stream: String?, session: String?, service: String?, command: String?,
        trace: TraceID?, checkpoint: String?, text: String, fields: String?, isPartial: Bool
    ) {
        self.cursor = cursor
        self.time = time
        self.sprite = sprite
        self.spriteName = spriteName
        self.kind = kind
        self.level = level
        self.event = event
        self.stream = stream
        self.session = session
        self.service = service
        self.command = command
        self.trace = trace
        self.checkpoint = checkpoint
        self.text = text
        self.fields = fields
        self.isPartial = isPartial
    }
}

package struct RecordPage: Sendable {
    package var records: [RecordView]
    /// Everything up to here was looked at, whether or not it was wanted: go on from here. Nil if nothing is there.
    package var next: JournalCursor?
    /// There may be more in this direction.
    package var hasMore: Bool
    package init(records: [RecordView], next: JournalCursor?, hasMore: Bool) {
        self.records = records
        self.next = next
        self.hasMore = hasMore
    }
}

package enum RecordOrder: Sendable, Hashable { case oldestFirst, newestFirst }

/// The answer to a question in SQL.
package struct SQLAnswer: Sendable {
    package enum Value: Sendable, Hashable {
        case null
        case integer(Int64)
        case real(Double)
        case text(String)
        case blob([UInt8])
    }
    package var columns: [String]
    package var rows: [[Value]]
    /// There were more rows than the limit.
    package var isTruncated: Bool
    package init(columns: [String], rows: [[Value]], isTruncated: Bool) {
        self.columns = columns
        self.rows = rows
        self.isTruncated = isTruncated
    }
}

/// Reads what was recorded, also of sprites that no longer exist. Throws ``SpriteError``.
package protocol JournalReader: Sendable {
    /// Lines after the cursor (or before it, newest first); nil begins at the end of that side.
    ///
    /// Gives up after a short time on a search that finds little: then `hasMore` is set and `next` says where to go on.
    func records(
        _ filter: RecordFilter, order: RecordOrder, from cursor: JournalCursor?, limit: Int
    ) async throws -> RecordPage
    /// The end of the journal now: following from here shows what comes.
    func end() async throws -> JournalCursor
    /// Waits until there is something after the cursor. Throws `CancellationError`.
    func waitForChange(after cursor: JournalCursor) async throws
    /// Spans in the order they began; empty if the trace is not known.
    func spans(_ trace: TraceID) async throws -> [SpanView]
    /// Runs one read-only statement with limits on time and rows.
    func query(_ statement: String, rowsMax: Int) async throws -> SQLAnswer
}

extension JournalReader {
    /// Lines of one sprite only, whatever else the filter says: what that sprite itself may see.
    package func records(
        sprite: SpriteID, filter: RecordFilter, order: RecordOrder = .newestFirst, from cursor: JournalCursor? = nil,
        limit: Int
    ) async throws -> RecordPage {
        var filter = filter
        filter.sprite = sprite
        filter.spriteName = nil
        return try await records(filter, order: order, from: cursor, limit: limit)
    }
}

/// A span as it is read.
package struct SpanView: Sendable {
    package var span: JournalSpan
    package var spriteName: String?
    /// A JSON object.
    package var attributes: String?
    package init(span: JournalSpan, spriteName: String?, attributes: String?) {
        self.span = span
        self.spriteName = spriteName
        self.attributes = attributes
    }
}
