// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import Glibc

/// Signals to this process, as a sequence instead of their default actions. There is one at a time.
///
/// They are caught by a handler that writes to a pipe. A signal that is ignored and watched by other means is lost in the
/// moments in which no thread has it blocked.
struct Signals: Sendable {
    let received: AsyncStream<Int32>

    /// From its return on, none is missed.
    init(_ numbers: [Int32]) {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(64))
        received = stream
        // A signal this process was told to ignore, as by nohup or for a job in the background, stays ignored.
        let wanted = numbers.filter { !Self.isIgnored($0) }
        let pipe = clinux_catch_signals(wanted, Int32(wanted.count))
        guard pipe >= 0 else {
            continuation.finish()
            return
        }
        // Blocks for as long as the process lives, so it is no task: those share a few threads.
        DispatchQueue(label: "signals").async {
            var number: UInt8 = 0
            while true {
                let count = read(pipe, &number, 1)
                if count == 1 { continuation.yield(Int32(number)) }
                if count == 0 || (count < 0 && errno != EINTR) { return }
            }
        }
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard sigaction(number, nil, &action) == 0 else { return false }
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }
}
