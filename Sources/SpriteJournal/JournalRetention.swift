// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// How much is kept. What is beyond goes oldest first, a little at a time between writes.
package struct JournalRetention: Sendable {
    /// What a record takes besides its text, about.
    static let rowBytes: Int64 = 60
    /// Records that go at once: one may be a line or 16 KiB, and all that writes waits meanwhile.
    static let sliceRange: ClosedRange<Int64> = 64...4096
    private static let spansSlice: Int64 = 4000

    /// Older records go.
    package var age: Duration = .seconds(30 * 24 * 3600)
    /// Of the whole file.
    package var bytes: Int64 = 4 << 30
    /// Of one sprite's records, so that a talkative one does not push out the others'.
    package var bytesPerSprite: Int64 = 1 << 30

    package init() {}

    /// Pages in use, in bytes.
    func size(_ connection: Connection) throws -> Int64 {
        let pages = try connection.number("PRAGMA page_count") ?? 0
        let free = try connection.number("PRAGMA freelist_count") ?? 0
        return (pages - free) * (try connection.number("PRAGMA page_size") ?? 4096)
    }

    /// Removes one slice of what is too much; true if there was something. The newest record always stays: its number
    /// must not be used again.
    func apply(_ connection: Connection, indexed: Int64, newest: Int64, slice: Int64) throws -> Bool {
        let cutoff = Timestamp.now().nanoseconds - age.nanoseconds
        var removed = false
        if let first = try connection.number("SELECT min(id) FROM records"), first < newest {
            if try size(connection) > bytes {
                let last = min(newest - 1, first + slice)
                try remove("id <= \(last)", upTo: last, connection, indexed)
                removed = true
            } else if let old = try connection.number(
                "SELECT last FROM marks WHERE latest < \(cutoff) AND first <= \(first) + 4096 ORDER BY first LIMIT 1")
            {
                let last = min(newest - 1, old, first + slice)
                if last >= first {
                    try remove("id <= \(last)", upTo: last, connection, indexed)
                    removed = true
                }
            }
        }
        if let sprite = try connection.number("SELECT key FROM sprites WHERE bytes > \(bytesPerSprite) LIMIT 1"),
            let last = try connection.number(
                """
                SELECT max(id) FROM (SELECT id FROM records WHERE sprite = \(sprite) AND id < \(newest)
                ORDER BY id LIMIT \(slice))
                """)
        {
            try remove("sprite = \(sprite) AND id <= \(last)", upTo: nil, connection, indexed)
            removed = true
        }
        if let old = try connection.number("SELECT start FROM spans ORDER BY key LIMIT 1"), old < cutoff {
            try removeSpans(connection, before: cutoff)
            removed = true
        }
        if removed { try connection.execute("PRAGMA incremental_vacuum(4000)") }
        return removed
    }

    private func remove(_ condition: String, upTo last: Int64?, _ connection: Connection, _ indexed: Int64) throws {
        try connection.transaction {
            try connection.execute(
                """
                INSERT INTO words (words, rowid, text)
                SELECT 'delete', id, text FROM records WHERE \(condition) AND id <= \(indexed)
                """)
            try connection.execute(
                """
                UPDATE sprites SET bytes = max(0, sprites.bytes - gone.bytes) FROM (
                    SELECT sprite, sum(length(CAST(text AS BLOB)) + coalesce(length(CAST(fields AS BLOB)), 0)
                        + \(JournalRetention.rowBytes)) AS bytes
                    FROM records WHERE \(condition) GROUP BY sprite
                ) AS gone WHERE gone.sprite = sprites.key
                """)
            try connection.execute("DELETE FROM records WHERE \(condition)")
            guard let last else { return }
            let time = try connection.number("SELECT max(latest) FROM marks WHERE last <= \(last)")
            try connection.execute("DELETE FROM marks WHERE last <= \(last)")
            try connection.execute(
                """
                DELETE FROM sources WHERE key IN (SELECT key FROM sources WHERE last <= \(last) LIMIT 4000)
                """)
            if let time { try removeSpans(connection, before: time) }
        }
    }

    private func removeSpans(_ connection: Connection, before time: Int64) throws {
        try connection.execute(
            """
            DELETE FROM spans WHERE key IN (SELECT key FROM spans ORDER BY key LIMIT \(JournalRetention.spansSlice))
            AND start < \(time)
            """)
    }
}
