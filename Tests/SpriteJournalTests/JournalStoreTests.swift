// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import SpriteDomain
import Testing

@testable import SpriteJournal

@Suite struct JournalStoreTests {
    @Test func `a clock that steps back neither hides nor reorders records`() async throws {
        let journal = try JournalFixture()
        let now = Timestamp.now().nanoseconds
        let hour: Int64 = 3_600_000_000_000
        // An hour back in the middle, over several runs of records that share a mark.
        for number in 0..<9000 {
            let time = number < 4500 ? now + Int64(number) : now - hour + Int64(number)
            journal.store.record(
                JournalRecord("test.step", "\(number)", time: Timestamp(nanoseconds: time), trace: nil))
        }
        try await journal.settle()
        var filter = RecordFilter()
        filter.events = ["test.step"]
        #expect(try await journal.texts(filter) == (0..<9000).map(String.init))
        #expect(try await journal.texts(filter, order: .newestFirst) == (0..<9000).reversed().map(String.init))
        filter.since = Timestamp(nanoseconds: now)
        #expect(try await journal.texts(filter) == (0..<4500).map(String.init))
        filter.since = Timestamp(nanoseconds: now - 2 * hour)
        filter.until = Timestamp(nanoseconds: now - hour / 2)
        #expect(try await journal.texts(filter) == (4500..<9000).map(String.init))
        await journal.store.stop()
    }

    @Test func `pages neither miss nor repeat a line while records come`() async throws {
        let journal = try JournalFixture()
        let output = PrintedOutput()
        journal.store.opened(output, start: CommandStart(arguments: ["test"], user: nil, trace: nil))
        output.print((0..<20_000).map { "line \($0)\n" }.joined())
        journal.store.changed(output)
        try await eventually { try await journal.texts(lines(output)).count == 20_000 }
        var found: [String] = []
        var cursor: JournalCursor?
        var more = 20_000
        repeat {
            let page = try await journal.store.records(lines(output), order: .newestFirst, from: cursor, limit: 333)
            found += page.records.map(\.text)
            cursor = page.next
            output.print("line \(more)\n")
            journal.store.changed(output)
            more += 1
            guard page.hasMore else { break }
        } while true
        #expect(found == (0..<20_000).reversed().map { "line \($0)" })
        await journal.store.stop()
    }

    @Test func `what is recorded moves from the log into the database while it is open`() async throws {
        let journal = try JournalFixture()
        func size(_ path: String) throws -> Int {
            try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
        }
        for number in 0..<5000 {
            journal.store.record(JournalRecord("test.step", "\(number) " + String(repeating: "text ", count: 200)))
        }
        try await journal.settle()
        // Into the database, whose readers need no log then.
        try await eventually { try size(journal.path) > 4_000_000 }
        await journal.store.stop()
    }

    @Test func `following from the end of a page misses nothing`() async throws {
        let journal = try JournalFixture()
        let store = journal.store
        let writer = Task {
            for number in 0..<3000 {
                store.record(JournalRecord("test.follow", "\(number)", trace: nil))
                if number % 100 == 0 { try await Task.sleep(for: .milliseconds(2)) }
            }
        }
        var filter = RecordFilter()
        filter.events = ["test.follow"]
        var found: [String] = []
        var cursor = JournalCursor(record: 0)
        while found.count < 3000 {
            let page = try await journal.store.records(filter, order: .oldestFirst, from: cursor, limit: 70)
            found += page.records.map(\.text)
            cursor = page.next ?? cursor
            if !page.hasMore, found.count < 3000 { try await journal.store.waitForChange(after: cursor) }
        }
        #expect(found == (0..<3000).map(String.init))
        try await writer.value
        await journal.store.stop()
    }

    @Test func `a search also finds what the index does not hold yet`() async throws {
        let journal = try JournalFixture()
        let output = PrintedOutput()
        journal.store.opened(output, start: nil)
        var filter = lines(output)
        filter.words = "Needle"
        for round in 1...20 {
            output.print((0..<2000).map { "hay \($0)\n" }.joined() + "a needle, number \(round)\n")
            journal.store.changed(output)
            // As soon as it can be read it can be found.
            try await eventually { try await journal.texts(filter).count >= round }
        }
        try await eventually { journal.store.shared.indexed == journal.store.shared.newest }
        #expect(try await journal.texts(filter) == (1...20).map { "a needle, number \($0)" })
        await journal.store.stop()
    }

    @Test func `what a session printed is recorded once across restarts`() async throws {
        let journal = try JournalFixture()
        let output = PrintedOutput()
        journal.store.opened(output, start: CommandStart(arguments: ["test"], user: nil, trace: nil))
        output.print("one\ntwo\n")
        journal.store.changed(output)
        try await eventually { try await journal.texts(lines(output)).count == 2 }
        output.print("three\n")
        try await journal.reopen()
        output.print("four\n")
        journal.store.opened(output, start: nil)
        output.end()
        journal.store.changed(output)
        try await eventually { output.isReleased }
        #expect(try await journal.texts(lines(output)) == ["one", "two", "three", "four"])
        await journal.store.stop()
    }

    @Test func `what is recorded is known as long as its files are there`() async throws {
        let journal = try JournalFixture()
        let output = PrintedOutput()
        journal.store.opened(output, start: CommandStart(arguments: ["test"], user: nil, trace: nil))
        output.print("only once\n")
        output.end()
        journal.store.changed(output)
        try await eventually { output.isReleased }
        try await journal.settle()
        // A client still has it; the daemon is killed, and the next one comes upon the files.
        for _ in 0..<2 {
            try await journal.reopen()
            journal.store.opened(output, start: nil)
            try await journal.settle()
        }
        #expect(try await journal.texts(lines(output)) == ["only once"])
        #expect(try journal.number("SELECT count(*) FROM positions") == 2)
        output.remove()
        try await journal.settle()
        #expect(try journal.number("SELECT count(*) FROM positions") == 0)
        await journal.store.stop()
    }

    @Test func `a damaged file is put aside and a new one begun`() async throws {
        let journal = try JournalFixture { path in
            try Data("this is no database, whatever its name says".utf8).write(to: URL(filePath: path))
        }
        try await eventually { try await journal.texts().contains { $0.hasPrefix("the journal was damaged") } }
        let files = try FileManager.default.contentsOfDirectory(atPath: journal.folder.path)
        #expect(files.contains { $0.hasPrefix("journal.db.damaged-") })
        await journal.store.stop()
    }

    @Test func `what files keep no more is counted`() async throws {
        let journal = try JournalFixture()
        let output = PrintedOutput()
        output.print(String(repeating: "0123456789\n", count: 1000))
        output.forget(before: 5500)
        journal.store.opened(output, start: nil)
        output.end()
        journal.store.changed(output)
        try await eventually { output.isReleased }
        var filter = RecordFilter()
        filter.events = ["output.dropped"]
        #expect(try await journal.texts(filter) == ["5500 bytes of stdout came too fast to be recorded"])
        #expect(try await journal.texts(lines(output)).count == 500)
        await journal.store.stop()
    }

    private func lines(_ output: PrintedOutput) -> RecordFilter {
        var filter = RecordFilter()
        filter.sprite = output.sprite
        filter.streams = ["stdout"]
        return filter
    }
}
