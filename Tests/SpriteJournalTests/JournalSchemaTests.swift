// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteJournal

@Suite struct JournalSchemaTests {
    /// FNV-1a of every migration that was shipped. One that changes would leave older files as they are.
    private static let shipped: [UInt64] = [16_726_395_831_101_604_441, 17_227_686_022_088_343_593]

    @Test func `a shipped migration never changes`() {
        let hashes = JournalSchema.migrations.map { text in
            text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        }
        #expect(hashes == Self.shipped)
    }

    @Test func `a file of the first version is brought up to date and keeps its records`() async throws {
        let sprite = SpriteID.random()
        // Young enough for retention to keep it.
        let time = Timestamp.now().nanoseconds - 3_600_000_000_000
        let journal = try JournalFixture { path in
            let connection = try Connection(path: path, readOnly: false)
            try connection.execute("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL")
            try connection.execute(JournalSchema.migrations[0])
            try connection.execute(
                """
                PRAGMA user_version = 1;
                INSERT INTO sprites VALUES (1, '\(sprite)', 'old', 100);
                INSERT INTO sources VALUES (1, 1, 'stdout', '7', NULL, '/bin/echo hello', 'v3', 5, 6);
                INSERT INTO records VALUES (5, \(time), 1, 1, 2, 1, 0, NULL, NULL, 'hello from before', NULL);
                INSERT INTO records VALUES (6, \(time + 1), 1, 1, 2, 1, 2, NULL, NULL, 'two' || char(10) || 'lines', NULL);
                INSERT INTO marks VALUES (5, 6, \(time), \(time + 1));
                INSERT INTO words (rowid, text) VALUES (5, 'hello from before');
                INSERT INTO state VALUES ('indexed', 5);
                """)
        }
        #expect(try journal.number("PRAGMA user_version") == Int64(JournalSchema.migrations.count))
        journal.store.record(JournalRecord("test.new", sprite: sprite, "hello from now", trace: nil))
        try await journal.settle()
        var filter = RecordFilter()
        filter.spriteName = "old"
        #expect(try await journal.texts(filter) == ["hello from before", "two", "lines", "hello from now"])
        filter.words = "hello"
        let found = try await journal.store.records(filter, order: .oldestFirst, from: nil, limit: 10).records
        #expect(found.map(\.text) == ["hello from before", "hello from now"])
        #expect(found.first?.session == "7" && found.first?.checkpoint == "v3")
        #expect(found.last.map { $0.cursor.record > 6 } == true)
        await journal.store.stop()
    }

    @Test func `a file of a newer version is refused and left alone`() throws {
        #expect {
            _ = try JournalFixture { path in
                let connection = try Connection(path: path, readOnly: false)
                try connection.execute("PRAGMA user_version = 1000")
            }
        } throws: {
            ($0 as? SpriteError)?.code == .conflict
        }
    }
}
