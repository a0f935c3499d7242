// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Dispatch

/// Threads for calls that block; the shared concurrency pool has only as many threads as cores.
private let blockingQueue = DispatchQueue(label: "sprite.blocking", attributes: .concurrent)

/// Runs a blocking call off the concurrency pool. Not cancelled: an effect that was begun is finished.
package func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    let observer = CallObserver.current
    return try await withCheckedThrowingContinuation { continuation in
        blockingQueue.async {
            continuation.resume(with: Result { try CallObserver.$current.withValue(observer, operation: body) })
        }
    }
}
