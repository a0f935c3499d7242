// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteDomain
import SpriteJournal

/// A journal with many records, in a file of its own, written by the journal's own writer.
extension Bench {
    private static let sprites = 20
    private static let rareWord = "xylophone"

    func journalRecords() async throws {
        let path = settings.journalFile ?? "/var/tmp/sprite-bench-\(getpid())-journal.db"
        let isOurs = settings.journalFile == nil
        defer { if isOurs { for suffix in ["", "-wal", "-shm"] { unlink(path + suffix) } } }
        let clock = RecordClock()
        var retention = JournalRetention()
        // Everything is kept: what is measured is a full journal, not how one is emptied.
        retention.bytes = 1 << 50
        retention.bytesPerSprite = 1 << 50
        var intake = JournalIntake()
        intake.bytesPerSecond = 1 << 40
        intake.bytesPerSecondOfSession = 1 << 40
        let journal = try JournalStore(
            path: path, retention: retention, intake: intake, logger: Logger(label: "bench"), now: { clock.now })
        defer { clock.end() }
        let there = try await journal.query("SELECT max(id) FROM records", rowsMax: 1)
        if case .integer(let count)? = there.rows.first?.first, count >= settings.journalRecords {
            report.progress("\(path) has \(count) records")
        } else {
            try await fill(journal, clock)
        }
        try await ask(journal, path)
        await journal.stop()
    }

    /// Lines of 100 bytes over ten days, a call of the API for every hundred of them and a checkpoint for every ten
    /// thousand; as quickly as they are taken.
    private func fill(_ journal: JournalStore, _ clock: RecordClock) async throws {
        report.progress("writing \(settings.journalRecords) records")
        let begin = ContinuousClock.now
        let printers = (0..<Self.sprites).flatMap { sprite in (0..<4).map { LinePrinter(sprite: sprite, session: $0) } }
        for printer in printers {
            let name = try SpriteName("records-\(printer.number)")
            journal.describe(printer.sprite, name: name, source: .initial)
            journal.opened(printer, start: CommandStart(arguments: ["bench"], user: nil, trace: nil))
        }
        var lines = 0
        while lines < settings.journalRecords {
            // Below the size from which several lines share a record, and above what the writer takes at once.
            let count = 600
            for printer in printers {
                printer.print(count, from: lines, rare: Self.rareWord)
                lines += count
                journal.changed(printer)
            }
            let sprite = printers[lines / 600 % printers.count].sprite
            for number in 0..<printers.count * count / 100 {
                journal.record(
                    JournalRecord(
                        "api.request", kind: .api, sprite: sprite, "GET /v1/sprites 200",
                        fields: [("status", 200), ("number", .number(Int64(number)))], time: clock.now, trace: nil))
            }
            for _ in 0..<printers.count * count / 10_000 {
                journal.record(
                    JournalRecord("checkpoint.created", kind: .checkpoint, sprite: sprite, "made v1", time: clock.now))
            }
            while !printers.allSatisfy(\.isRecorded) { try await Task.sleep(for: .milliseconds(1)) }
            clock.advance(by: 864_000 * Double(printers.count * count) / Double(settings.journalRecords))
        }
        let written = ContinuousClock.now - begin
        for printer in printers { printer.end() }
        for printer in printers { journal.changed(printer) }
        report.progress("written in \(Int(written.milliseconds / 1e3)) s; indexing")
        while journal.unindexed > 0 { try await Task.sleep(for: .milliseconds(100)) }
        report.progress("indexed after \(Int((ContinuousClock.now - begin).milliseconds / 1e3)) s")
    }

    // MARK: Questions

    private func ask(_ journal: JournalStore, _ path: String) async throws {
        let newest = try await journal.records(RecordFilter(), order: .newestFirst, from: nil, limit: 1)
        let end = newest.records.first?.time ?? .now()
        var ofSprite = RecordFilter()
        ofSprite.spriteName = "records-7"
        try await row("journal: newest 100 of one sprite", journal, ofSprite, limit: 100, bar: 10) { $0 == 100 }
        var rare = RecordFilter()
        rare.words = Self.rareWord
        try await row("journal: a rare word", journal, rare, limit: 100, bar: 50) { $0 >= 1 && $0 <= 100 }
        for kind in [RecordKind.api, .checkpoint, .process] {
            var window = RecordFilter()
            window.kinds = [kind]
            // An hour in the middle.
            window.since = Timestamp(nanoseconds: end.nanoseconds - 5 * 86_400_000_000_000)
            window.until = Timestamp(nanoseconds: end.nanoseconds - (5 * 24 - 1) * 3_600_000_000_000)
            try await row("journal: an hour of \(kind.text)", journal, window, limit: 1000, bar: 50) { $0 >= 1 }
        }
        // What is still in the log takes disk as well.
        let size = try fileSize(path) + fileSize("\(path)-wal")
        let text = try await journal.query("SELECT sum(bytes) FROM sprites", rowsMax: 1)
        guard case .integer(let counted)? = text.rows.first?.first else { throw BenchFailure("there is no text") }
        let count = try await journal.query(
            "SELECT max(id) - (SELECT count(*) FROM records WHERE event IS NOT NULL) FROM records", rowsMax: 1)
        guard case .integer(let lines)? = count.rows.first?.first else { throw BenchFailure("there are no lines") }
        var ratio = Samples()
        ratio.add(milliseconds: Double(size) / Double(lines * 100))
        var row = Row("journal: disk for a byte of text", ratio, bars: [.atMost(2.5)])
        row.unit = "bytes"
        row.note = "\(lines) lines of 100 bytes in \(size >> 20) MiB; \(counted >> 20) MiB counted for retention"
        report.add(row)
    }

    private func row(
        _ name: String, _ journal: JournalStore, _ filter: RecordFilter, limit: Int, bar: Double,
        _ isRight: (Int) -> Bool
    ) async throws {
        let samples = try await measure { _ in
            var found = 0
            let took = try await timed {
                var cursor: JournalCursor?
                repeat {
                    let page = try await journal.records(
                        filter, order: .newestFirst, from: cursor, limit: limit - found)
                    found += page.records.count
                    cursor = page.hasMore ? page.next : nil
                } while cursor != nil && found < limit
            }
            guard isRight(found) else { throw BenchFailure("\(name): \(found) records were found") }
            return took
        }
        report.add(Row(name, samples, bars: [.atMost(bar)]))
    }

    private func fileSize(_ path: String) throws -> Int64 {
        var status = stat()
        guard stat(path, &status) == 0 else { throw BenchFailure("cannot look at \(path)") }
        return Int64(status.st_size)
    }
}
