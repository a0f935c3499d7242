// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Logging
import SpriteDomain
import Testing

@testable import SpriteJournal

/// A journal in a folder of its own.
final class JournalFixture {
    let folder: URL
    private(set) var store: JournalStore

    var path: String { folder.appending(path: "journal.db").path }

    /// - Parameter prepare: Makes the file before it is opened.
    init(
        retention: JournalRetention = JournalRetention(), intake: JournalIntake = JournalIntake(),
        prepare: (String) throws -> Void = { _ in }
    ) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "journal-\(SpriteID.random())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let path = folder.appending(path: "journal.db").path
        try prepare(path)
        store = try JournalStore(path: path, retention: retention, intake: intake, logger: Logger(label: "test"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func reopen(retention: JournalRetention = JournalRetention()) async throws {
        await store.stop()
        store = try JournalStore(path: path, retention: retention, logger: Logger(label: "test"))
    }

    /// A record that is searched for until it is there: everything before it is written then.
    func settle() async throws {
        let mark = "mark\(UInt64.random(in: 0 ... .max))"
        store.record(JournalRecord("test.mark", mark))
        try await eventually {
            var filter = RecordFilter()
            filter.events = ["test.mark"]
            let page = try await self.store.records(filter, order: .newestFirst, from: nil, limit: 1)
            return page.records.first?.text == mark
        }
    }

    func texts(_ filter: RecordFilter = RecordFilter(), order: RecordOrder = .oldestFirst) async throws -> [String] {
        var texts: [String] = []
        var cursor: JournalCursor?
        while true {
            let page = try await store.records(filter, order: order, from: cursor, limit: 1000)
            texts += page.records.filter { $0.event != "test.mark" }.map(\.text)
            guard page.hasMore else { return texts }
            cursor = page.next
        }
    }

    /// Asks the file itself.
    func number(_ question: String) throws -> Int64? {
        try Connection(path: path, readOnly: true).number(question)
    }
}

/// Waits up to a minute: all suites run at once, on few cores.
func eventually(_ isSo: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !isSo() {
        guard ContinuousClock.now < deadline else {
            Issue.record("it did not come about within ten seconds")
            return
        }
        try await Task.sleep(for: .milliseconds(10))
    }
}
