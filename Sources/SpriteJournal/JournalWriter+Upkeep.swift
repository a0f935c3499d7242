// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

/// What is done behind the writes, a little at a time: whatever is written waits for it.
extension JournalWriter {
    /// Of indexing, and of removing what is too old.
    private static let sliceTime: Duration = .milliseconds(10)
    /// Records may have 16 KiB, of which the index takes four in a millisecond.
    private static let indexedAtOnce: Int64 = 4
    private static let indexedMax: Int64 = 1000
    private static let retentionPause: Duration = .seconds(1)
    /// While there is more to remove: a tenth of the time at most is spent on it.
    private static let retentionPauseWithMore: Duration = .milliseconds(100)

    func maintain() {
        guard failingSince == nil else { return }
        do {
            let isBusy = tails.values.contains(where: \.isChanged)
            let lag = nextID - 1 - indexed
            if lag > 0, !isBusy || nextID % 4 == 0 { try index(JournalWriter.sliceTime * (isBusy ? 1 : 2)) }
            if .now - lastRetention >= retentionPause { try retain() }
            try checkpointIfDue()
        } catch {
            logger.warning("the journal is not kept up", metadata: ["error": "\(error)"])
            lastRetention = .now
            lastCheckpoint = .now
        }
    }

    private func checkpointIfDue() throws {
        if checkpointer.takeRest() { try connection.moveLog() }
        guard isLogNews, .now - lastCheckpoint >= .seconds(1) else { return }
        (lastCheckpoint, isLogNews) = (.now, false)
        checkpointer.begin()
    }

    private func index(_ sliceTime: Duration) throws {
        let newest = min(nextID - 1, indexed + JournalWriter.indexedMax)
        let begin = ContinuousClock.now
        var end = indexed
        try connection.transaction {
            while end < newest, .now - begin < sliceTime {
                let next = min(newest, end + JournalWriter.indexedAtOnce)
                let statement = try connection.statement(
                    "INSERT INTO words (rowid, text) SELECT id, text FROM records WHERE id > ? AND id <= ?")
                statement.bind([.number(end), .number(next)])
                try statement.run()
                end = next
            }
            let state = try connection.statement("INSERT OR REPLACE INTO state (name, value) VALUES ('indexed', ?)")
            state.bind([.number(end)])
            try state.run()
        }
        isLogNews = true
        indexed = end
        shared.setIndexed(end)
    }

    private func retain() throws {
        let begin = ContinuousClock.now
        let removed = try retention.apply(
            connection, indexed: indexed, newest: nextID - 1, slice: retentionSlice)
        shared.setSize(try retention.size(connection))
        lastRetention = .now
        retentionPause = removed ? JournalWriter.retentionPauseWithMore : JournalWriter.retentionPause
        guard removed else { return }
        isLogNews = true
        let took = lastRetention - begin
        let range = JournalRetention.sliceRange
        if took > JournalWriter.sliceTime { retentionSlice = max(range.lowerBound, retentionSlice / 2) }
        if took < JournalWriter.sliceTime / 2 { retentionSlice = min(range.upperBound, retentionSlice * 2) }
    }
}
