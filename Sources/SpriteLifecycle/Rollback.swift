// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The undoing of steps that succeeded, for when a later one fails.
actor Rollback {
    private var steps: [@Sendable () async -> Void] = []

    func onFailure(_ step: @escaping @Sendable () async -> Void) { steps.append(step) }

    func run() async {
        while let step = steps.popLast() { await step() }
    }
}

/// Runs `body`; if it throws, the registered steps run newest first, uncancelled, before the error goes on.
func withRollback<Value: Sendable>(
    _ body: @Sendable (Rollback) async throws -> Value
) async throws -> Value {
    let undo = Rollback()
    do {
        return try await body(undo)
    } catch {
        // A task of its own, awaited here, so that a client that hung up does not stop the cleaning.
        await Task { await undo.run() }.value
        throw error
    }
}
