// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDBSQLite
import Glibc
package import SpriteDomain

extension JournalStore: JournalReader {
    package func records(
        _ filter: RecordFilter, order: RecordOrder, from cursor: JournalCursor?, limit: Int
    ) async throws -> RecordPage {
        let matcher = try LineMatcher(words: filter.words, pattern: filter.pattern)
        return try await readers.read { connection in
            var reader = PageReader(connection, filter, matcher, order: order, from: cursor, limit: limit)
            return try reader.read()
        }
    }

    package func end() async throws -> JournalCursor {
        let newest = shared.newest
        // It may have been opened for reading only.
        guard newest == 0 else { return JournalCursor(record: newest + 1) }
        return try await readers.read { connection in
            JournalCursor(record: (try connection.number("SELECT max(id) FROM records") ?? 0) + 1)
        }
    }

    package func waitForChange(after cursor: JournalCursor) async throws {
        try await shared.wait(after: max(0, cursor.record - (cursor.line > 0 ? 0 : 1)))
    }

    package func spans(_ trace: TraceID) async throws -> [SpanView] {
        try await readers.read { connection in
            let statement = try connection.statement(
                """
                SELECT p.id, p.parent, p.name, p.start, p.duration, p.error, p.attributes, s.id, s.name
                FROM spans p LEFT JOIN sprites s ON s.key = p.sprite WHERE p.trace = ? ORDER BY p.start, p.key LIMIT 10000
                """)
            statement.bind(1, trace.bytes)
            defer { statement.reset() }
            var spans: [SpanView] = []
            while try statement.step() {
                guard let id = SpanID(value: UInt64(bitPattern: statement.number(0))) else { continue }
                let span = JournalSpan(
                    trace: trace, id: id,
                    parent: statement.optionalNumber(1).flatMap { SpanID(value: UInt64(bitPattern: $0)) },
                    name: statement.text(2) ?? "", sprite: statement.text(7).flatMap(SpriteID.init(rawValue:)),
                    start: Timestamp(nanoseconds: statement.number(3)), duration: .nanoseconds(statement.number(4)),
                    error: statement.text(5))
                spans.append(
                    SpanView(span: span, spriteName: statement.text(8), attributes: statement.text(6)))
            }
            return spans
        }
    }

    package func query(_ text: String, rowsMax: Int) async throws -> SQLAnswer {
        // A connection of its own: what the question leaves behind ends with it.
        try await readers.question { try SQLQuestion.ask($0, text, rowsMax: rowsMax) }
    }
}

extension ReaderPool {
    func question(_ body: @escaping @Sendable (Connection) throws -> SQLAnswer) async throws -> SQLAnswer {
        try await read { _ in
            let connection = try Self.open(self.path)
            return try body(connection)
        }
    }
}

/// One read-only statement of a user.
enum SQLQuestion {
    static let patience: Duration = .seconds(5)
    private static let statementBytesMax = 100_000
    private static let answerBytesMax = 32 << 20

    static func ask(_ connection: Connection, _ text: String, rowsMax: Int) throws -> SQLAnswer {
        guard text.utf8.count <= statementBytesMax, !text.utf8.contains(0) else {
            throw SpriteError(.invalidRequest, "invalid SQL: it is longer than \(statementBytesMax) bytes or holds NUL")
        }
        // The virtual table is connected first: connecting asks for what a statement may not do.
        try connection.execute("PRAGMA temp_store = FILE; SELECT rowid FROM words LIMIT 0")
        sqlite3_limit(connection.handle, SQLITE_LIMIT_LENGTH, 4 << 20)
        sqlite3_limit(connection.handle, SQLITE_LIMIT_ATTACHED, 0)
        sqlite3_limit(connection.handle, SQLITE_LIMIT_WORKER_THREADS, 0)
        sqlite3_set_authorizer(
            connection.handle, { _, action, first, second, _, _ in authorize(action, first, second) }, nil)
        connection.interrupt(after: .now + patience)
        defer { connection.interrupt(after: nil) }
        do {
            return try rows(connection, text, rowsMax)
        } catch let error as SQLiteError {
            switch error.code & 0xFF {
            case SQLITE_INTERRUPT:
                throw SpriteError(.timeout, "cannot answer: the statement took longer than \(patience)")
            case SQLITE_AUTH:
                throw SpriteError(
                    .invalidRequest, "cannot run the statement: only reading is allowed (\(error.message))")
            default: throw SpriteError(.invalidRequest, "cannot run the statement: \(error.message)")
            }
        }
    }

    private static func rows(_ connection: Connection, _ text: String, _ rowsMax: Int) throws -> SQLAnswer {
        let statement = try connection.prepareOnly(text)
        guard sqlite3_stmt_readonly(statement.handle) != 0 else {
            throw SpriteError(.invalidRequest, "cannot run the statement: only reading is allowed")
        }
        var answer = SQLAnswer(columns: [], rows: [], isTruncated: false)
        let columns = sqlite3_column_count(statement.handle)
        for column in 0..<columns {
            answer.columns.append(sqlite3_column_name(statement.handle, column).map { String(cString: $0) } ?? "")
        }
        var bytes = 0
        while try statement.step() {
            guard answer.rows.count < rowsMax, bytes < answerBytesMax else {
                answer.isTruncated = true
                break
            }
            let row = (0..<columns).map { value(statement, $0) }
            for value in row {
                switch value {
                case .text(let text): bytes += text.utf8.count
                case .blob(let blob): bytes += blob.count
                default: bytes += 8
                }
            }
            answer.rows.append(row)
        }
        return answer
    }

    private static func value(_ statement: Statement, _ column: Int32) -> SQLAnswer.Value {
        switch sqlite3_column_type(statement.handle, column) {
        case SQLITE_INTEGER: .integer(statement.number(column))
        case SQLITE_FLOAT: .real(sqlite3_column_double(statement.handle, column))
        case SQLITE_TEXT: .text(statement.text(column) ?? "")
        case SQLITE_BLOB: .blob(statement.bytes(column).map { Array($0) } ?? [])
        default: .null
        }
    }
}

/// What a statement of a user may do: read tables and call functions that stay within the database.
private func authorize(_ action: Int32, _ first: UnsafePointer<CChar>?, _ second: UnsafePointer<CChar>?) -> Int32 {
    switch action {
    case SQLITE_SELECT, SQLITE_READ, SQLITE_RECURSIVE: return SQLITE_OK
    case SQLITE_FUNCTION:
        let name = second.map { String(cString: $0).lowercased() } ?? ""
        let denied = ["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "zeroblob", "randomblob"]
        return denied.contains(name) ? SQLITE_DENY : SQLITE_OK
    case SQLITE_PRAGMA:
        // The full-text index asks this itself.
        return first.map { String(cString: $0) } == "data_version" ? SQLITE_OK : SQLITE_DENY
    default: return SQLITE_DENY
    }
}
