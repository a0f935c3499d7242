// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Gives out turns one at a time, in the order they were asked for: one sprite's life events never overlap.
///
/// A plain lock would block a thread; an actor alone lets another call in at every `await`.
actor TurnQueue {
    private var isTaken = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    /// Runs `body` alone. Waiting is not cancelled: what stands before it has deadlines of its own.
    func withTurn<Value: Sendable>(_ body: @Sendable () async throws -> Value) async throws -> Value {
        await take()
        defer { giveBack() }
        return try await body()
    }

    private func take() async {
        guard isTaken else {
            isTaken = true
            return
        }
        await withCheckedContinuation { waiters.append($0) }
    }

    private func giveBack() {
        guard !waiters.isEmpty else {
            isTaken = false
            return
        }
        waiters.removeFirst().resume()
    }
}
