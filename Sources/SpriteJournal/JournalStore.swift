// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

/// The journal in one SQLite file, `journal.db`.
package final class JournalStore: Sendable {
    let path: String
    let shared = JournalShared()
    let mailbox: JournalMailbox
    let readers: ReaderPool
    private let ended = Mutex<(isEnded: Bool, waiter: CheckedContinuation<Void, Never>?)>((false, nil))

    /// Opens or makes the file, brings its schema up to date and starts the writing thread.
    ///
    /// - Parameters:
    ///   - unwrittenPath: Where it is noted how many records wait while the disk is full, so that the next daemon can say
    ///     it if this one is killed; on another disk, or in memory.
    ///   - now: The time of output.
    package init(
        path: String, unwrittenPath: String? = nil, retention: JournalRetention = JournalRetention(),
        intake: JournalIntake = JournalIntake(),
        logger: Logger, now: @escaping @Sendable () -> Timestamp = Timestamp.now
    ) throws {
        self.path = path
        mailbox = try JournalMailbox()
        readers = ReaderPool(path: path)
        let opening = JournalOpening(
            path: path, unwrittenPath: unwrittenPath, shared: shared, mailbox: mailbox, retention: retention,
            intake: intake, logger: logger, now: now)
        do {
            // Made here so that a failure is the caller's; used by the new thread alone from then on.
            nonisolated(unsafe) let writer = try opening.open()
            try startJournalThread {
                if let writer = writer ?? opening.openLater() { writer.run() }
                self.threadEnded()
            }
        } catch let error as SpriteError {
            throw error
        } catch {
            throw SpriteError(.internalError, "cannot open the journal at \(path)", cause: error)
        }
    }

    /// Records that the full-text index does not hold yet.
    package var unindexed: Int64 { max(0, shared.newest - shared.indexed) }

    /// Writes what waits and ends the thread.
    package func stop() async {
        mailbox.put { $0.isStopped = true }
        await withCheckedContinuation { continuation in
            let isEnded = ended.withLock { ended in
                if !ended.isEnded { ended.waiter = continuation }
                return ended.isEnded
            }
            if isEnded { continuation.resume() }
        }
    }

    private func threadEnded() {
        let waiter = ended.withLock { ended in
            ended.isEnded = true
            return ended.waiter.take()
        }
        waiter?.resume()
    }

    /// Measures in the text format of Prometheus.
    package var metricsText: String {
        shared.metrics.text + """
            # HELP sprited_journal_records_total The number of the newest record.
            # TYPE sprited_journal_records_total counter
            sprited_journal_records_total \(shared.newest)
            # HELP sprited_journal_waiting Records that are not written yet.
            # TYPE sprited_journal_waiting gauge
            sprited_journal_waiting \(mailbox.waiting + shared.waitingRecords)
            # HELP sprited_journal_unindexed Records that the full-text index does not hold yet.
            # TYPE sprited_journal_unindexed gauge
            sprited_journal_unindexed \(unindexed)
            # HELP sprited_journal_output_waiting_bytes Output of sessions that is not recorded yet.
            # TYPE sprited_journal_output_waiting_bytes gauge
            sprited_journal_output_waiting_bytes \(shared.waitingBytes)
            # HELP sprited_journal_writable Whether the database could be written the last time.
            # TYPE sprited_journal_writable gauge
            sprited_journal_writable \(shared.isWritable ? 1 : 0)
            # HELP sprited_journal_dropped_bytes_total Bytes of output that were left out.
            # TYPE sprited_journal_dropped_bytes_total counter
            sprited_journal_dropped_bytes_total \(shared.metrics.counter("dropped_bytes"))
            # HELP sprited_journal_dropped_total Records that could not be kept.
            # TYPE sprited_journal_dropped_total counter
            sprited_journal_dropped_total \(shared.metrics.counter("dropped"))
            # HELP sprited_journal_exported_total Records and spans that a collector took.
            # TYPE sprited_journal_exported_total counter
            sprited_journal_exported_total \(shared.metrics.counter("exported"))
            # HELP sprited_journal_bytes Size of the journal's file in use.
            # TYPE sprited_journal_bytes gauge
            sprited_journal_bytes \(shared.size)

            """
    }
}

extension JournalStore: JournalRecorder {
    package func record(_ record: JournalRecord) { mailbox.leave(.record(record)) }

    package func record(_ span: JournalSpan) {
        shared.metrics.observe(span)
        mailbox.leave(.span(span))
    }

    package func describe(_ sprite: SpriteID, name: SpriteName, source: CheckpointID) {
        mailbox.leave(.description(sprite, name: name, source: source))
    }
}

extension JournalStore: OutputRecorder {
    package func opened(_ output: any RecordedOutput, start: CommandStart?) {
        let time = Timestamp.now()
        mailbox.put { $0.opened.append((output, start, time, start?.trace)) }
    }

    package func changed(_ output: any RecordedOutput) { mailbox.put { $0.changed.append(output) } }
}

private final class ThreadBody: Sendable {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func run() { body() }
}

private func startJournalThread(_ body: @escaping @Sendable () -> Void) throws {
    var handle = pthread_t()
    let result = pthread_create(
        &handle, nil,
        { argument in
            guard let argument else { return nil }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    guard result == 0 else { throw SystemError(result, "start the journal's thread") }
    pthread_detach(handle)
}
