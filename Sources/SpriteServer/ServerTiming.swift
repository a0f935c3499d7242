// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension APIServerConfiguration {
    /// Waits of the protocol, shortened in tests.
    package struct Timing: Sendable {
        /// A message goes out on a WebSocket that was quiet for this long: one client counts only messages.
        package var keepalive: Duration = .seconds(15)
        /// After the exit frame the client is given this long to close.
        package var closeByClient: Duration = .seconds(5)
        /// After our Close frame the connection stays this long for the peer's.
        package var closeHandshake: Duration = .seconds(2)
        /// A connection that has not sent a whole request head after this long is closed.
        package var requestHead: Duration = .seconds(60)
        /// A body in JSON that has not come whole after this long ends the connection.
        package var requestBody: Duration = .seconds(60)
        /// A connection is closed that has not sent another whole request head this long after its last answer.
        package var idleConnection: Duration = .seconds(300)
        /// Between the last output and the exit frame over plain HTTP: one client takes each read for one frame.
        package var exitPause: Duration = .milliseconds(25)
        /// A client for which something waits and which takes nothing of it for this long is cut off; zero: never.
        package var stalledClient: Duration = .seconds(300)
        package init() {}
    }
}
