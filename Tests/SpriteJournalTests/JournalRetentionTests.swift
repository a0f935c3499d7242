// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteJournal

@Suite struct JournalRetentionTests {
    /// Prints numbered lines of 1000 bytes, each a record of its own.
    private func print(_ journal: JournalFixture, _ output: PrintedOutput, _ count: Int) async throws {
        for first in stride(from: 0, to: count, by: 50) {
            for number in first..<min(first + 50, count) {
                output.print("line \(number) " + String(repeating: "x", count: 980) + "\n")
            }
            journal.store.changed(output)
            try await eventually {
                try await journal.store.records(lines(output), order: .newestFirst, from: nil, limit: 1).records.first?
                    .text.hasPrefix("line \(min(first + 50, count) - 1) ") == true
            }
        }
    }

    private func lines(_ output: PrintedOutput) -> RecordFilter {
        var filter = RecordFilter()
        filter.sprite = output.sprite
        filter.streams = ["stdout"]
        return filter
    }

    private func numbers(_ journal: JournalFixture, _ output: PrintedOutput) async throws -> [Int] {
        try await journal.texts(lines(output)).compactMap { Int($0.split(separator: " ")[1]) }
    }

    @Test func `of a sprite that prints too much the oldest goes, and nothing of others`() async throws {
        var retention = JournalRetention()
        retention.bytesPerSprite = 300_000
        let journal = try JournalFixture(retention: retention)
        let (loud, quiet) = (PrintedOutput(), PrintedOutput())
        for output in [quiet, loud] { journal.store.opened(output, start: nil) }
        try await print(journal, quiet, 100)
        try await print(journal, loud, 1000)
        try await eventually { try journal.number("SELECT max(bytes) FROM sprites") ?? 0 <= 300_000 }
        let left = try await numbers(journal, loud)
        #expect(left.last == 999 || left.isEmpty)
        #expect(left == Array((1000 - left.count)..<1000))
        #expect(try await numbers(journal, quiet) == Array(0..<100))
        await journal.store.stop()
        #expect(try journal.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'") == 0)
    }

    @Test func `of a journal that is too large the oldest goes, while others write`() async throws {
        var retention = JournalRetention()
        retention.bytes = 1 << 20
        let journal = try JournalFixture(retention: retention)
        let output = PrintedOutput()
        journal.store.opened(output, start: nil)
        try await print(journal, output, 3000)
        try await eventually {
            let pages = try journal.number("PRAGMA page_count") ?? 0
            let free = try journal.number("PRAGMA freelist_count") ?? 0
            return (pages - free) * 4096 <= 1 << 20
        }
        journal.store.record(JournalRecord("test.last", "the newest always stays", trace: nil))
        try await journal.settle()
        var filter = RecordFilter()
        filter.events = ["test.last"]
        #expect(try await journal.texts(filter) == ["the newest always stays"])
        let left = try await numbers(journal, output)
        #expect(left == Array((3000 - left.count)..<3000))
        // What went is not found by a search either.
        var search = RecordFilter()
        search.words = "line 0"
        #expect(try await journal.texts(search).allSatisfy { !$0.hasPrefix("line 0 ") })
        await journal.store.stop()
    }

    @Test func `what is too old goes`() async throws {
        var retention = JournalRetention()
        retention.age = .seconds(3600)
        let journal = try JournalFixture(retention: retention)
        let hour: Int64 = 3_600_000_000_000
        let now = Timestamp.now().nanoseconds
        for number in 0..<5000 {
            let time = Timestamp(nanoseconds: number < 4000 ? now - 2 * hour : now)
            journal.store.record(JournalRecord("test.age", "\(number)", time: time, trace: nil))
        }
        try await journal.settle()
        var filter = RecordFilter()
        filter.events = ["test.age"]
        // Records go together with those of the same mark: the youngest of it decides.
        try await eventually { try await journal.texts(filter).count < 5000 - 1900 }
        let left = try await journal.texts(filter).compactMap(Int.init)
        #expect(left == Array((5000 - left.count)..<5000))
        #expect(left.count >= 1000)
        #expect(try journal.number("SELECT count(*) FROM words WHERE words MATCH '\"17\"'") == 0)
        await journal.store.stop()
    }

    @Test func `numbers of records are never used again`() async throws {
        let journal = try JournalFixture()
        for number in 0..<100 { journal.store.record(JournalRecord("test.number", "\(number)", trace: nil)) }
        try await journal.settle()
        let newest = journal.store.shared.newest
        var retention = JournalRetention()
        retention.age = .zero
        try await journal.reopen(retention: retention)
        try await eventually { try journal.number("SELECT count(*) FROM records") == 1 }
        try await journal.reopen()
        #expect(journal.store.shared.newest >= newest)
        journal.store.record(JournalRecord("test.number", "after", trace: nil))
        try await journal.settle()
        #expect(try journal.number("SELECT max(id) FROM records") ?? 0 > newest)
        await journal.store.stop()
    }
}
