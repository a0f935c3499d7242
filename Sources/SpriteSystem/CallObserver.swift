// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Hears of single calls to the kernel and of runs of external programs while a request is traced.
///
/// ``blocking(_:)`` carries it over to its thread.
package struct CallObserver: Sendable {
    @TaskLocal package static var current: CallObserver?

    private let ended: @Sendable (_ name: String, _ subject: String?, _ took: Duration, _ error: String?) -> Void

    /// - Parameter ended: Told of each call when it is over: which it was, what it was done to, how long it took, and
    ///   what went wrong.
    package init(ended: @escaping @Sendable (String, String?, Duration, String?) -> Void) { self.ended = ended }

    fileprivate func observe<Value>(_ name: String, _ subject: String?, _ body: () throws -> Value) rethrows -> Value {
        let start = ContinuousClock.now
        do {
            let value = try body()
            ended(name, subject, .now - start, nil)
            return value
        } catch {
            ended(name, subject, .now - start, "\(error)")
            throw error
        }
    }
}

/// Runs a call that the trace of a request shows; without a trace it is only run.
///
/// - Parameters:
///   - name: A stable word: `ioctl.snap_create`, `mount.overlay`, `command.nft`.
///   - subject: What it is done to.
@discardableResult
package func traced<Value>(
    _ name: @autoclosure () -> String, _ subject: @autoclosure () -> String? = nil, _ body: () throws -> Value
) rethrows -> Value {
    guard let observer = CallObserver.current else { return try body() }
    return try observer.observe(name(), subject(), body)
}
