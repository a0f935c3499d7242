// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

/// What is done behind the writes, a little at a time.
extension JournalWriter {
    /// One slice of indexing: about 10 ms.
    private static let indexedRows: Int64 = 1000

    func maintain() {
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
