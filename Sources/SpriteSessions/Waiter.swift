// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Synchronization

/// One task that waits; whoever comes first, an event or its cancellation, wakes it, and the rest has no effect.
final class Waiter<Value: Sendable>: Sendable {
    private enum Phase {
        case idle
        case waiting(CheckedContinuation<Value, any Error>)
        case done(Result<Value, any Error>)
    }
    private let phase = Mutex(Phase.idle)

    /// May come before ``wait()``.
    func resume(_ result: Result<Value, any Error>) {
        let continuation = phase.withLock { phase -> CheckedContinuation<Value, any Error>? in
            switch phase {
            case .idle:
                phase = .done(result)
                return nil
            case .waiting(let continuation):
                phase = .done(result)
                return continuation
            case .done: return nil
            }
        }
        continuation?.resume(with: result)
    }

    /// To be called once.
    func wait() async throws -> Value {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result = phase.withLock { phase -> Result<Value, any Error>? in
                    if case .done(let result) = phase { return result }
                    phase = .waiting(continuation)
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            resume(.failure(CancellationError()))
        }
    }
}

extension Waiter where Value == Void {
    func resume() { resume(.success(())) }
}
