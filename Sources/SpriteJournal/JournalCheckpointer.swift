// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Dispatch
import GRDBSQLite
import Logging
import Synchronization

/// Moves what is in the write-ahead log into the database, beside the writing thread: under load that is a hundred MB at
/// a time, with a flush of the disk before and after, for which no record should wait.
///
/// The log begins anew once all of it was moved, which never happens while records come. So the writing thread moves the
/// little that came during the last pass itself.
final class JournalCheckpointer: Sendable {
    /// 64 MiB: a log of that size is to begin anew.
    private static let framesWanted: Int32 = 16 << 10
    /// 8 MiB: so much the writing thread moves itself.
    private static let framesOfWriter: Int32 = 2 << 10
    /// 1 GiB: the writing thread moves whatever is left, before the disk is full of it.
    private static let framesMax: Int32 = 256 << 10
    private static let passesMax = 5

    private struct State {
        var isRunning = false
        var mustFinish = false
        var isFailing = false
    }

    private let path: String
    private let queue = DispatchQueue(label: "sprite.journal.checkpoint")
    private let state = Mutex(State())
    /// Used on the queue alone.
    nonisolated(unsafe) private var connection: Connection?

    private let logger: Logger

    init(path: String, logger: Logger) {
        self.path = path
        self.logger = logger
    }

    /// Begins a pass unless one is under way.
    func begin() {
        let isFirst = state.withLock { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard isFirst else { return }
        queue.async { [self] in
            var (mustFinish, failure): (Bool, (any Error)?) = (false, nil)
            do { mustFinish = try run() } catch {
                // The next pass begins with a new connection.
                connection = nil
                failure = error
            }
            let isFailing = failure != nil
            let wasFailing = state.withLock { state in
                defer { state = State(isRunning: false, mustFinish: mustFinish, isFailing: isFailing) }
                return state.isFailing
            }
            // Once, not in every pass: writing goes on, and says itself what it cannot do.
            guard let failure, !wasFailing else { return }
            logger.warning(
                "cannot move the journal's log into its database; it is tried again, and the log grows meanwhile",
                metadata: ["error": "\(failure)"])
        }
    }

    /// Whether the writing thread is to move the rest now; asked by it.
    func takeRest() -> Bool {
        state.withLock { state in
            defer { state.mustFinish = false }
            return state.mustFinish
        }
    }

    /// Waits for what is under way, and lets go of the file.
    func stop() { queue.sync { connection = nil } }

    private func run() throws -> Bool {
        if connection == nil {
            let opened = try Connection(path: path, readOnly: false)
            // One that has read nothing yet does not know that there is a log, and has nothing to move.
            _ = try opened.number("PRAGMA user_version")
            connection = opened
        }
        guard let connection else { return false }
        var (before, came): (Int32, Int32) = (0, 0)
        for _ in 0..<Self.passesMax {
            let log = try connection.moveLog()
            (before, came) = (log, log - before)
            if came <= Self.framesOfWriter { break }
        }
        return before >= Self.framesWanted && came <= Self.framesOfWriter || before >= Self.framesMax
    }
}

extension Connection {
    /// Moves what no reader holds back, waiting for nobody; returns how many pages the log has.
    @discardableResult func moveLog() throws -> Int32 {
        var (log, moved): (Int32, Int32) = (0, 0)
        let result = sqlite3_wal_checkpoint_v2(handle, nil, SQLITE_CHECKPOINT_PASSIVE, &log, &moved)
        guard result == SQLITE_OK || result & 0xFF == SQLITE_BUSY else { throw error }
        return log
    }
}
