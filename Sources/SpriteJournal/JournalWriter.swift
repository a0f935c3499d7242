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
    private static let streamBudget = 2 << 20
    /// One slice of indexing: about 10 ms.
    private static let indexedRows: Int64 = 1000

    let connection: Connection
    let shared: JournalShared
    let mailbox: JournalMailbox
    let logger: Logger
    let retention: JournalRetention
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
    var lastRetention = ContinuousClock.now
    var lastCheckpoint = ContinuousClock.now
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)

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
        path: String, shared: JournalShared, mailbox: JournalMailbox, retention: JournalRetention, logger: Logger
    ) throws {
        connection = try Connection(path: path, readOnly: false)
        self.shared = shared
        self.mailbox = mailbox
        self.retention = retention
        self.logger = logger
        // Before the first table is made: pages that retention frees are given back little by little.
        try connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
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
    }

    deinit { buffer.deallocate() }

    // MARK: The thread

    func run() {
        while true {
            mailbox.sleep(milliseconds: pauseMilliseconds)
            usleep(JournalWriter.gatherMicroseconds)
            var content = mailbox.take()
            let isStopped = content.isStopped
            keepPending(&content)
            write()
            maintain()
            if isStopped {
                // What is left of long output is read by the next daemon.
                try? connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return
            }
        }
    }

    var pauseMilliseconds: Int32 {
        if failingSince != nil { return 500 }
        if tails.values.contains(where: \.isChanged) || indexed < nextID - 1 { return 0 }
        let deadline = tails.values.compactMap(\.partialDeadline).min()
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
        let due = tails.values.filter { $0.isChanged || ($0.partialDeadline.map { $0 <= now } ?? false) }
        guard !pending.items.isEmpty || !due.isEmpty || lost != nil || !newlyOpened.isEmpty else { return }
        let before = (nextID, nextSource, mark)
        do {
            var finished: [OutputTail] = []
            try connection.transaction {
                for opened in newlyOpened { try writeOpened(opened) }
                for item in pending.items { try write(item) }
                for tail in due { if try drain(tail) { finished.append(tail) } }
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
            pending.items.removeAll(keepingCapacity: true)
            newlyOpened.removeAll()
            committed(due, finished)
        } catch {
            rollback(to: before, due: due, error)
        }
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
            tail.positions = tail.committed
            tail.sources = tail.sources.map { _ in nil }
            tail.isChanged = true
        }
        if failingSince == nil {
            failingSince = .now
            logger.error("the journal cannot be written", metadata: ["error": "\(error)"])
        }
        guard (error as? SQLiteError)?.mayPass != true else { return }
        // Not the fault of the disk: the same records would fail for ever.
        lost = ((lost?.count ?? 0) + pending.items.count, lost?.since ?? .now())
        pending.items.removeAll()
    }

    private func committed(_ due: [OutputTail], _ finished: [OutputTail]) {
        for tail in due {
            for stream in tail.positions.indices where tail.committed[stream] != tail.positions[stream] {
                tail.output.setRecorded(stream, upTo: tail.positions[stream])
            }
            tail.committed = tail.positions
        }
        for tail in finished {
            tail.output.release()
            tails[ObjectIdentifier(tail.output)] = nil
            released.append(tail)
        }
        shared.committed(nextID - 1)
    }

    // MARK: Sessions

    struct Opened {
        var tail: OutputTail
        var start: CommandStart?
        var time: Timestamp
        var trace: TraceID?
        var isKnown: Bool
    }
    var newlyOpened: [Opened] = []
    /// Whose positions can be forgotten, since their files are gone.
    var released: [OutputTail] = []

    func open(_ output: any RecordedOutput, _ start: CommandStart?, _ time: Timestamp, _ trace: TraceID?) {
        let info = output.info
        let tag = info.tag ?? ""
        // What the daemon runs for itself, such as a file transfer, is no output of the sprite.
        guard tag.isEmpty || tag.hasPrefix("service:") else { return output.release() }
        let streams = info.isTerminal ? 1 : 2
        var positions = [Int64](repeating: 0, count: streams)
        var isKnown = false
        if start == nil,
            let statement = try? connection.statement(
                "SELECT stream, position, done FROM positions WHERE sprite = ? AND session = ? AND created = ?")
        {
            statement.bind([.text(output.sprite.rawValue), .text(info.id), .number(info.createdAt.nanoseconds)])
            var isDone = false
            while (try? statement.step()) == true {
                let stream = Int(statement.number(0))
                if positions.indices.contains(stream) { positions[stream] = statement.number(1) }
                isKnown = true
                if statement.number(2) != 0 { isDone = true }
            }
            statement.reset()
            if isDone { return output.release() }
            // Never started, or so short that its beginning was not recorded either: nothing is known to be missing.
            let extent = output.look()
            if !isKnown, extent.ending == .lost, extent.streams.allSatisfy({ $0.isEmpty }) { return output.release() }
        }
        let tail = OutputTail(output, positions: positions)
        tails[ObjectIdentifier(output)] = tail
        newlyOpened.append(Opened(tail: tail, start: start, time: time, trace: trace, isKnown: isKnown))
    }

    private func writeOpened(_ opened: Opened) throws {
        guard !opened.isKnown else { return }
        let (tail, info) = (opened.tail, opened.tail.info)
        for stream in tail.positions.indices { try savePosition(tail, stream, done: false) }
        var fields: [(name: String, value: RecordValue)] = []
        if let start = opened.start {
            fields.append(("argv", .list(start.arguments)))
            if let user = start.user { fields.append(("user", .text(user))) }
        }
        fields.append(("directory", .text(info.directory)))
        if info.isTerminal { fields.append(("tty", true)) }
        if info.processID > 0 { fields.append(("pid", .number(Int64(info.processID)))) }
        var record = JournalRecord(
            "exec.started", kind: .process, sprite: tail.output.sprite, info.command, session: info.id,
            service: tail.service, fields: fields, time: opened.start == nil ? info.createdAt : opened.time,
            trace: opened.trace)
        record.text = info.command
        try insert(record, command: info.command)
    }

    private func savePosition(_ tail: OutputTail, _ stream: Int, done: Bool) throws {
        let statement = try connection.statement(
            """
            INSERT INTO positions (sprite, session, created, stream, position, done) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET position = excluded.position, done = excluded.done
            """)
        statement.bind([
            .text(tail.output.sprite.rawValue), .text(tail.info.id), .number(tail.info.createdAt.nanoseconds),
            .number(Int64(stream)), .number(tail.positions[stream]), .number(done ? 1 : 0),
        ])
        try statement.run()
    }

    /// Records what a session printed; true if that was all.
    private func drain(_ tail: OutputTail) throws -> Bool {
        let extent = tail.output.look()
        let isLast = extent.ending != nil
        var hasMore = false
        let time = Timestamp.now()
        for stream in tail.positions.indices where stream < extent.streams.count {
            let range = extent.streams[stream]
            let begin = tail.positions[stream]
            if range.lowerBound > begin { try recordGap(tail, stream, to: range.lowerBound) }
            let more = try tail.drain(
                stream, to: range.upperBound, isLast: isLast, budget: JournalWriter.streamBudget, buffer: buffer
            ) { piece in
                let source = try sourceKey(of: tail, stream)
                try insert(piece, tail.output.sprite, source, time)
            }
            hasMore = hasMore || more
            if tail.positions[stream] != begin, !isLast || more { try savePosition(tail, stream, done: false) }
        }
        tail.isChanged = hasMore
        guard isLast, !hasMore, let ending = extent.ending else { return false }
        try writeEnd(tail, ending, extent)
        for stream in tail.positions.indices { try savePosition(tail, stream, done: true) }
        return true
    }

    /// Output came faster than it could be recorded for longer than files keep it.
    private func recordGap(_ tail: OutputTail, _ stream: Int, to start: Int64) throws {
        let count = start - tail.positions[stream]
        tail.positions[stream] = start
        try insert(
            JournalRecord(
                "output.dropped", kind: .process, level: .warning, sprite: tail.output.sprite,
                "\(count) bytes of \(stream == 0 ? "stdout" : "stderr") came too fast to be recorded",
                session: tail.info.id, service: tail.service,
                fields: [("bytes", .number(count)), ("stream", .text(stream == 0 ? "stdout" : "stderr"))], trace: nil),
            command: tail.info.command)
    }

    private func writeEnd(_ tail: OutputTail, _ ending: ExitStatus, _ extent: OutputExtent) throws {
        let time = extent.endedAt ?? .now()
        var fields: [(name: String, value: RecordValue)] = [("exit_code", .number(Int64(ending.code)))]
        var text = "exit \(ending.code)"
        switch ending {
        case .exited: break
        case .signaled(let number):
            fields.append(("signal", .number(Int64(number))))
            text = "killed by signal \(number)"
        case .lost:
            fields.append(("lost", true))
            text = "ended with the machine, or unseen"
        }
        fields.append(("duration_ns", .number(max(0, time.nanoseconds - tail.info.createdAt.nanoseconds))))
        for (name, range) in zip(["stdout_bytes", "stderr_bytes"], extent.streams) {
            fields.append((name, .number(range.upperBound)))
        }
        try insert(
            JournalRecord(
                "exec.ended", kind: .process, level: ending == .exited(0) ? .info : .warning,
                sprite: tail.output.sprite, text, session: tail.info.id, service: tail.service, fields: fields,
                time: time, trace: nil), command: tail.info.command)
    }

    // MARK: Behind the writes

    private func maintain() {
        guard failingSince == nil else { return }
        do {
            let isBusy = tails.values.contains(where: \.isChanged)
            let lag = nextID - 1 - indexed
            if lag > 0, !isBusy || nextID % 4 == 0 { try index() }
            let now = ContinuousClock.now
            if now - lastRetention >= .seconds(1) {
                lastRetention = now
                let removed = try retention.apply(connection, indexed: indexed, newest: nextID - 1)
                // More of it at once while there is nothing else to do.
                if removed, !isBusy { lastRetention -= .milliseconds(900) }
                shared.setSize(try retention.size(connection))
            }
            if now - lastCheckpoint >= .seconds(2) {
                lastCheckpoint = now
                try connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            }
        } catch {
            logger.warning("the journal is not kept up", metadata: ["error": "\(error)"])
            lastRetention = .now
            lastCheckpoint = .now
        }
    }

    private func index() throws {
        let end = min(nextID - 1, indexed + JournalWriter.indexedRows)
        try connection.transaction {
            let statement = try connection.statement(
                "INSERT INTO words (rowid, text) SELECT id, text FROM records WHERE id > ? AND id <= ?")
            statement.bind([.number(indexed), .number(end)])
            try statement.run()
            let state = try connection.statement("INSERT OR REPLACE INTO state (name, value) VALUES ('indexed', ?)")
            state.bind([.number(end)])
            try state.run()
        }
        indexed = end
        shared.setIndexed(end)
    }
}
