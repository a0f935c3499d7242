// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteDomain

/// Writes everything into the database. One thread owns it.
///
/// What came within ``gatherMicroseconds`` is one transaction. Nothing here is waited for by a request or by a process
/// in a sprite: output waits in its files, everything else in the mailbox.
final class JournalWriter {
    /// From the first news to the transaction that holds them.
    static let gatherMicroseconds: UInt32 = 5000
    /// Of one stream in one transaction.
    static let streamBudget = 2 << 20
    /// Of all streams in one transaction: what else waits is not held up for long by a thousand talkative sessions.
    static let transactionBudget = 16 << 20
    /// The same, of time: half of what a record is late at most.
    static let transactionTime: Duration = .milliseconds(50)
    /// Steps behind everything that serves somebody, which also keeps output streams at their speed: with two cores, a
    /// GiB through a WebSocket takes a third longer beside a writer of the same rank.
    private static let niceness: Int32 = 5

    let connection: Connection
    let shared: JournalShared
    let mailbox: JournalMailbox
    let unwrittenPath: String?
    let logger: Logger
    let retention: JournalRetention
    let intake: JournalIntake
    /// The time of output.
    let now: @Sendable () -> Timestamp
    /// Of all sessions together.
    var bucket: TokenBucket
    /// What the transaction may still take of output.
    var budget = 0
    var tails: [ObjectIdentifier: OutputTail] = [:]
    var facts: [SpriteID: SpriteFacts] = [:]
    /// The newest sprite of each name.
    var ids: [String: SpriteID] = [:]
    var nextID: Int64
    /// Records up to here are in the full-text index.
    var indexed: Int64
    var sourceKeys: [Source: Int64] = [:]
    var nextSource: Int64
    var touchedSources: [Int64: Int64] = [:]
    var mark: Mark?
    var fullMarks: [Mark] = []
    var grown: [SpriteID: Int64] = [:]
    var pending = JournalMailbox.Content()
    /// Records that could not be kept, and since when.
    var lost: (count: Int, since: Timestamp)?
    var failingSince: ContinuousClock.Instant?
    /// Set while there is a note of them.
    var unwrittenSince: Timestamp?
    var lastRetention = ContinuousClock.now
    var retentionPause: Duration = .seconds(1)
    var retentionSlice = JournalRetention.sliceRange.lowerBound
    let checkpointer: JournalCheckpointer
    /// Something was written since the last pass of ``checkpointer`` began.
    var isLogNews = true
    var lastCheckpoint = ContinuousClock.now
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)

    struct SpriteFacts {
        var key: Int64?
        var name: String
        var checkpoint: String?
        /// Its name in the database is out of date.
        var isNews = true
    }

    struct Source: Hashable {
        var sprite: Int64?
        var stream: String?
        var session: String?
        var service: String?
        var command: String?
        var checkpoint: String?
    }

    /// The times of a run of records, so that a time leads to the records near it whatever the clock did.
    struct Mark {
        static let recordsMax: Int64 = 2048
        var first: Int64
        var last: Int64
        var earliest: Int64
        var latest: Int64
    }

    init(
        path: String, unwrittenPath: String?, shared: JournalShared, mailbox: JournalMailbox,
        retention: JournalRetention,
        intake: JournalIntake, logger: Logger, now: @escaping @Sendable () -> Timestamp
    ) throws {
        connection = try Connection(path: path, readOnly: false)
        checkpointer = JournalCheckpointer(path: path, logger: logger)
        self.shared = shared
        self.mailbox = mailbox
        self.unwrittenPath = unwrittenPath
        self.retention = retention
        self.intake = intake
        self.now = now
        bucket = TokenBucket(rate: intake.bytesPerSecond)
        self.logger = logger
        // Before the first table is made: pages that retention frees are given back little by little. Later it would be
        // a write, for which a full disk has no room.
        if try connection.number("PRAGMA page_count") == 0 {
            try connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        }
        try connection.execute("PRAGMA journal_mode = WAL")
        try connection.execute("PRAGMA synchronous = NORMAL")
        try connection.execute("PRAGMA wal_autocheckpoint = 0")
        try connection.execute("PRAGMA journal_size_limit = 67108864")
        try connection.execute("PRAGMA cache_size = -16384")
        try JournalSchema.migrate(connection)
        nextID = (try connection.number("SELECT max(id) FROM records") ?? 0) + 1
        nextSource = (try connection.number("SELECT max(key) FROM sources") ?? 0) + 1
        indexed = try connection.number("SELECT value FROM state WHERE name = 'indexed'") ?? 0
        shared.committed(nextID - 1)
        shared.setIndexed(indexed)
        // Of sessions whose files went with a daemon that was killed. No file is that old.
        let old = Timestamp.now().nanoseconds - retention.age.nanoseconds
        do {
            try connection.execute("DELETE FROM positions WHERE done = 1 AND created < \(old)")
        } catch let error as SQLiteError where error.isOfFullDisk {}
        lost = unwrittenOfBefore()
    }

    deinit { buffer.deallocate() }

    // MARK: The thread

    func run() {
        // Of this thread alone, on Linux.
        setpriority(Int32(PRIO_PROCESS.rawValue), 0, JournalWriter.niceness)
        while true {
            mailbox.sleep(milliseconds: pauseMilliseconds)
            usleep(JournalWriter.gatherMicroseconds)
            var content = mailbox.take()
            let isStopped = content.isStopped
            keepPending(&content)
            write()
            shared.setBehind(waitingBytes, records: pending.items.count, isWritable: failingSince == nil)
            maintain()
            if isStopped {
                // What is left of long output is read by the next daemon.
                checkpointer.stop()
                try? connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return
            }
        }
    }

    /// Output that is there and not recorded.
    private var waitingBytes: Int64 {
        var bytes: Int64 = 0
        for tail in tails.values where tail.isChanged {
            for (position, range) in zip(tail.positions, tail.output.look().streams) {
                bytes += max(0, range.upperBound - position)
            }
        }
        return bytes
    }

    var pauseMilliseconds: Int32 {
        if failingSince != nil { return 500 }
        if tails.values.contains(where: \.isChanged) || indexed < nextID - 1 { return 0 }
        let deadline = tails.values.compactMap(\.deadline).min()
        guard let deadline else { return 1000 }
        return Int32(clamping: max(1, Int((deadline - .now) / .milliseconds(1)) + 1))
    }

    /// What could not be written stays for the next try, up to a limit.
    private func keepPending(_ content: inout JournalMailbox.Content) {
        if pending.items.count + content.items.count > 100_000 {
            content.dropped += content.items.count
            content.items = content.items.filter { if case .description = $0 { true } else { false } }
        }
        if pending.items.isEmpty { pending.items = content.items } else { pending.items += content.items }
        if content.dropped > 0 {
            shared.metrics.count("dropped", content.dropped)
            lost = ((lost?.count ?? 0) + content.dropped, lost?.since ?? .now())
        }
        for opened in content.opened { open(opened.output, opened.start, opened.time, opened.trace) }
        for output in content.changed { tails[ObjectIdentifier(output)]?.isChanged = true }
    }

    private func write() {
        let now = ContinuousClock.now
        // Who waited longest comes first.
        let due = tails.values.filter { $0.isChanged || ($0.deadline.map { $0 <= now } ?? false) }.sorted {
            $0.lastTurn < $1.lastTurn
        }
        budget = JournalWriter.transactionBudget
        guard !pending.items.isEmpty || !due.isEmpty || lost != nil || !newlyOpened.isEmpty else { return }
        let before = (nextID, nextSource, mark)
        var touched = due
        do {
            var finished: [OutputTail] = []
            try connection.transaction {
                for opened in newlyOpened { try writeOpened(opened) }
                for item in pending.items {
                    for tail in outputBefore(item) where !finished.contains(where: { $0 === tail }) {
                        if !touched.contains(where: { $0 === tail }) { touched.append(tail) }
                        if try drain(tail) { finished.append(tail) }
                    }
                    try write(item)
                }
                for (turn, tail) in due.enumerated() where turn == 0 || isRoom(since: now) {
                    guard !finished.contains(where: { $0 === tail }) else { continue }
                    if try drain(tail) { finished.append(tail) }
                }
                if let lost {
                    try insert(
                        JournalRecord(
                            "journal.dropped", level: .error,
                            "\(lost.count) records could not be kept",
                            fields: [
                                ("count", .number(Int64(lost.count))), ("since", .number(lost.since.nanoseconds)),
                            ],
                            trace: nil))
                }
                if failingSince != nil {
                    try insert(
                        JournalRecord(
                            "journal.resumed", level: .warning, "the journal can be written again", trace: nil))
                }
                try writeMarks()
            }
            if failingSince != nil { logger.notice("the journal can be written again") }
            failingSince = nil
            lost = nil
            isLogNews = true
            forgetUnwritten()
            pending.items.removeAll(keepingCapacity: true)
            newlyOpened.removeAll()
            committed(touched, finished)
        } catch {
            rollback(to: before, due: touched, error)
        }
    }

    /// Whether the transaction may take more output: what is in it counts as recorded only at its end.
    private func isRoom(since begin: ContinuousClock.Instant) -> Bool {
        budget > 0 && .now - begin < JournalWriter.transactionTime
    }

    private func rollback(to before: (Int64, Int64, Mark?), due: [OutputTail], _ error: any Error) {
        (nextID, nextSource, mark) = before
        sourceKeys = [:]
        touchedSources = [:]
        grown = [:]
        for id in facts.keys {
            facts[id]?.key = nil
            facts[id]?.isNews = true
        }
        for tail in due {
            tail.rollBack()
            tail.sources = tail.sources.map { _ in nil }
            tail.isChanged = true
        }
        if failingSince == nil {
            failingSince = .now
            logger.error("the journal cannot be written", metadata: ["error": "\(error)"])
        }
        guard (error as? SQLiteError)?.mayPass != true else { return noteUnwritten() }
        // Not the fault of the disk: the same records would fail for ever.
        lost = ((lost?.count ?? 0) + pending.items.count, lost?.since ?? .now())
        pending.items.removeAll()
    }

    private func committed(_ due: [OutputTail], _ finished: [OutputTail]) {
        for tail in due {
            for stream in tail.positions.indices where tail.committed[stream] != tail.positions[stream] {
                tail.output.setRecorded(stream, upTo: tail.positions[stream])
            }
            tail.commit()
        }
        for tail in finished {
            tail.output.release()
            tails[ObjectIdentifier(tail.output)] = nil
            released.append(tail)
        }
        shared.committed(nextID - 1)
    }

    struct Opened {
        var tail: OutputTail
        var start: CommandStart?
        var time: Timestamp
        var trace: TraceID?
        var isKnown: Bool
    }
    var newlyOpened: [Opened] = []
    /// Whose positions can be forgotten once their files are gone.
    var released: [OutputTail] = []
}
