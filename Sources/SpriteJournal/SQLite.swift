// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import GRDBSQLite
import Glibc
import SpriteDomain

/// What SQLite says went wrong.
struct SQLiteError: Error, CustomStringConvertible {
    var code: Int32
    var message: String
    /// What the system said.
    var systemError: Int32 = 0
    var description: String { "\(message) (SQLite \(code))" }

    /// The filesystem is full, or cannot be written for another reason that may pass.
    var mayPass: Bool { [SQLITE_FULL, SQLITE_IOERR, SQLITE_BUSY, SQLITE_CANTOPEN].contains(code & 0xFF) }

    /// The disk is full. A file that cannot even be made says so only in the system's words.
    var isOfFullDisk: Bool {
        [SQLITE_FULL, SQLITE_IOERR].contains(code & 0xFF) || [ENOSPC, EDQUOT].contains(systemError)
    }

    /// What is there is no database, or a damaged one.
    var isDamage: Bool { [SQLITE_CORRUPT, SQLITE_NOTADB].contains(code & 0xFF) }
}

/// One connection. Used by one thread at a time; SQLite's own locks are off.
final class Connection {
    let handle: OpaquePointer
    private var cached: [String: Statement] = [:]
    private var deadline: ContinuousClock.Instant?

    init(path: String, readOnly: Bool) throws {
        var opened: OpaquePointer?
        let flags =
            (readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX
        let result = sqlite3_open_v2(path, &opened, flags, nil)
        guard result == SQLITE_OK, let opened else {
            let message = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "cannot open \(path)"
            let systemError = opened.map { sqlite3_system_errno($0) } ?? 0
            sqlite3_close_v2(opened)
            throw SQLiteError(code: result, message: message, systemError: systemError)
        }
        handle = opened
        sqlite3_extended_result_codes(handle, 1)
        sqlite3_busy_timeout(handle, 10_000)
    }

    deinit {
        cached = [:]
        sqlite3_close_v2(handle)
    }

    var error: SQLiteError {
        SQLiteError(
            code: sqlite3_extended_errcode(handle), message: String(cString: sqlite3_errmsg(handle)),
            systemError: sqlite3_system_errno(handle))
    }

    /// Runs statements without results.
    func execute(_ text: String) throws {
        guard sqlite3_exec(handle, text, nil, nil, nil) == SQLITE_OK else { throw error }
    }

    func prepare(_ text: String) throws -> Statement { try Statement(self, text) }

    /// A statement that is kept, reset and without values.
    func statement(_ text: String) throws -> Statement {
        if let found = cached[text] {
            found.reset()
            return found
        }
        let made = try Statement(self, text)
        cached[text] = made
        return made
    }

    /// Prepares a text that must hold one statement and nothing else.
    func prepareOnly(_ text: String) throws -> Statement {
        var rest = text
        return try rest.withUTF8 { bytes in
            try bytes.withMemoryRebound(to: CChar.self) { characters in
                var prepared: OpaquePointer?
                var tail: UnsafePointer<CChar>?
                let result = sqlite3_prepare_v2(
                    handle, characters.baseAddress, Int32(characters.count), &prepared, &tail)
                guard result == SQLITE_OK else { throw error }
                guard let prepared else { throw SQLiteError(code: SQLITE_MISUSE, message: "there is no statement") }
                let statement = Statement(self, owning: prepared)
                let used = tail.flatMap { end in characters.baseAddress.map { $0.distance(to: end) } } ?? 0
                let isSpace = { (byte: CChar) in byte == 0x20 || (0x09...0x0D).contains(byte) || byte == 0x3B }
                guard characters[used...].allSatisfy(isSpace) else {
                    throw SQLiteError(code: SQLITE_MISUSE, message: "there is more than one statement")
                }
                return statement
            }
        }
    }

    /// Makes statements fail with SQLITE_INTERRUPT from then on; nil: never.
    func interrupt(after deadline: ContinuousClock.Instant?) {
        self.deadline = deadline
        guard deadline != nil else {
            sqlite3_progress_handler(handle, 0, nil, nil)
            return
        }
        sqlite3_progress_handler(
            handle, 10_000,
            { connection in
                guard let connection else { return 0 }
                let deadline = Unmanaged<Connection>.fromOpaque(connection).takeUnretainedValue().deadline
                return deadline.map { $0 < .now } == true ? 1 : 0
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Nothing of the last use goes on: a statement that stands on a row would keep its snapshot for ever.
    func resetAll() {
        for statement in cached.values { statement.reset() }
    }

    /// The first column of the first row.
    func number(_ text: String) throws -> Int64? {
        let statement = try prepare(text)
        return try statement.step() ? statement.optionalNumber(0) : nil
    }

    /// All of it, or nothing.
    func transaction(_ body: () throws -> Void) throws {
        try execute("BEGIN IMMEDIATE")
        do {
            try body()
            try execute("COMMIT")
        } catch {
            try? execute("ROLLBACK")
            throw error
        }
    }
}

/// A value for a parameter.
enum Parameter {
    case number(Int64)
    case text(String)
    case blob([UInt8])
}

final class Statement {
    let handle: OpaquePointer
    private unowned let connection: Connection
    // The value that keeps SQLite from copying is `-1`, whose C macro Swift does not see.
    private static let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

    fileprivate init(_ connection: Connection, _ text: String) throws {
        self.connection = connection
        var prepared: OpaquePointer?
        guard sqlite3_prepare_v2(connection.handle, text, -1, &prepared, nil) == SQLITE_OK, let prepared else {
            throw connection.error
        }
        handle = prepared
    }

    fileprivate init(_ connection: Connection, owning handle: OpaquePointer) {
        self.connection = connection
        self.handle = handle
    }

    deinit { sqlite3_finalize(handle) }

    func reset() {
        sqlite3_reset(handle)
        sqlite3_clear_bindings(handle)
    }

    // MARK: Values in

    func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(handle, index, value) }
    func bind(_ index: Int32, _ value: Int64?) {
        if let value { sqlite3_bind_int64(handle, index, value) } else { sqlite3_bind_null(handle, index) }
    }

    func bind(_ index: Int32, _ value: String?) {
        guard var value else {
            sqlite3_bind_null(handle, index)
            return
        }
        value.withUTF8 { bytes in
            // A nil pointer would mean NULL.
            guard let base = bytes.baseAddress else {
                sqlite3_bind_text(handle, index, "", 0, Statement.transient)
                return
            }
            base.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
                _ = sqlite3_bind_text(handle, index, $0, Int32(bytes.count), Statement.transient)
            }
        }
    }

    func bind(_ index: Int32, _ bytes: [UInt8]?) {
        if let bytes {
            sqlite3_bind_blob(handle, index, bytes, Int32(bytes.count), Statement.transient)
        } else {
            sqlite3_bind_null(handle, index)
        }
    }

    /// Text that stays where it is until the step; UTF-8 without NUL.
    func bindInPlace(_ index: Int32, _ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return bind(index, "") }
        sqlite3_bind_text(handle, index, base.assumingMemoryBound(to: CChar.self), Int32(bytes.count), nil)
    }

    func bind(_ parameters: [Parameter]) {
        for (index, parameter) in parameters.enumerated() {
            switch parameter {
            case .number(let value): bind(Int32(index + 1), value)
            case .text(let value): bind(Int32(index + 1), value)
            case .blob(let value): bind(Int32(index + 1), value)
            }
        }
    }

    // MARK: Running

    /// Whether there is a row.
    func step() throws -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default: throw connection.error
        }
    }

    /// Runs a statement without rows, and makes it ready for the next time.
    func run() throws {
        let result = sqlite3_step(handle)
        defer { reset() }
        guard result == SQLITE_DONE || result == SQLITE_ROW else { throw connection.error }
    }

    // MARK: Values out

    func number(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }
    func optionalNumber(_ column: Int32) -> Int64? {
        sqlite3_column_type(handle, column) == SQLITE_NULL ? nil : number(column)
    }

    func text(_ column: Int32) -> String? {
        guard let bytes = bytes(column) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Text or a blob, valid until the next step.
    func bytes(_ column: Int32) -> UnsafeRawBufferPointer? {
        guard sqlite3_column_type(handle, column) != SQLITE_NULL else { return nil }
        let base = sqlite3_column_blob(handle, column)
        return UnsafeRawBufferPointer(start: base, count: Int(sqlite3_column_bytes(handle, column)))
    }
}
