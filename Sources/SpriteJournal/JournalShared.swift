// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

/// What the writing thread tells the others.
final class JournalShared: Sendable {
    private struct State {
        var newest: Int64 = 0
        var indexed: Int64 = 0
        var size: Int64 = 0
        var waitingBytes: Int64 = 0
        var waitingRecords = 0
        var isWritable = true
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var cancelled: Set<Int> = []
        var nextWaiter = 0
    }

    private let state = Mutex(State())
    let metrics = JournalMetrics()

    /// The newest record that can be read.
    var newest: Int64 { state.withLock { $0.newest } }
    var indexed: Int64 { state.withLock { $0.indexed } }
    var size: Int64 { state.withLock { $0.size } }
    /// Output in the files of sessions that the writing thread knows of and has not recorded.
    var waitingBytes: Int64 { state.withLock { $0.waitingBytes } }
    /// Records that the writing thread took and could not write yet.
    var waitingRecords: Int { state.withLock { $0.waitingRecords } }
    /// Whether the last transaction went well.
    var isWritable: Bool { state.withLock { $0.isWritable } }

    func setIndexed(_ id: Int64) { state.withLock { $0.indexed = id } }
    func setSize(_ size: Int64) { state.withLock { $0.size = size } }
    func setBehind(_ bytes: Int64, records: Int, isWritable: Bool) {
        state.withLock { ($0.waitingBytes, $0.waitingRecords, $0.isWritable) = (bytes, records, isWritable) }
    }

    func committed(_ id: Int64) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard id > state.newest else { return [] }
            state.newest = id
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits for a record after this one.
    func wait(after id: Int64) async throws {
        let number = state.withLock { state in
            defer { state.nextWaiter += 1 }
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state in
                    guard state.newest <= id, state.cancelled.remove(number) == nil else { return true }
                    state.waiters[number] = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
                guard let waiter = state.waiters.removeValue(forKey: number) else {
                    state.cancelled.insert(number)
                    return nil
                }
                return waiter
            }
            waiter?.resume()
        }
        state.withLock { _ = $0.cancelled.remove(number) }
        try Task.checkCancellation()
    }
}
