// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

@preconcurrency import Dispatch
import Glibc

/// Signals to this process, as a sequence instead of their default actions.
struct Signals: Sendable {
    let received: AsyncStream<Int32>
    private let sources: [any DispatchSourceSignal]

    init(_ numbers: [Int32]) {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(64))
        received = stream
        let queue = DispatchQueue(label: "signals")
        // Ignored and not yet watched, a signal would be lost: this returns when every source is in place.
        let watched = DispatchGroup()
        // A signal this process was told to ignore, as by nohup or for a job in the background, stays ignored.
        sources = numbers.filter { !Self.isIgnored($0) }.map { number in
            Glibc.signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { continuation.yield(number) }
            watched.enter()
            source.setRegistrationHandler { watched.leave() }
            source.resume()
            return source
        }
        _ = watched.wait(timeout: .now() + .seconds(1))
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard sigaction(number, nil, &action) == 0 else { return false }
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }
}
