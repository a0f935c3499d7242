// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore

/// What the requests of one connection share.
final class ClientConnection: Sendable {
    private struct State {
        var isGone = false
        var isInputClosed = false
        var onLeave: (@Sendable () -> Void)?
        var kept: SpriteTarget?
    }

    /// A client that closes its sending side may still wait for the answer; one that closes both cannot be told apart.
    private static let halfClosedGrace: TimeAmount = .seconds(10)

    let eventLoop: any EventLoop
    let address: SocketAddress?
    /// Held no longer than its pipeline, which holds this.
    let channel: (any Channel)?
    private let state = NIOLockedValueBox(State())

    init(_ channel: any Channel) {
        eventLoop = channel.eventLoop
        address = channel.remoteAddress
        self.channel = channel
    }

    /// Sets what to do when the client leaves; at once if it has left. Half closure is allowed, so that nothing else
    /// would tell it while there is nothing to send.
    func onLeave(_ action: (@Sendable () -> Void)?) {
        let (isGone, isInputClosed) = state.withLockedValue { state in
            state.onLeave = action
            return (state.isGone, state.isInputClosed)
        }
        if isGone { action?() } else if isInputClosed, action != nil { leaveSoon() }
    }

    /// Keeps a connection to a service for the next request.
    func keep(_ target: SpriteTarget) { state.withLockedValue { $0.kept = $0.isGone ? nil : target } }

    func takeKept() -> SpriteTarget? {
        state.withLockedValue { state in
            defer { state.kept = nil }
            return state.kept
        }
    }

    /// Whether it has left, or closed at least its sending side.
    var isGone: Bool { state.withLockedValue { $0.isGone || $0.isInputClosed } }

    /// The client's side was closed.
    func inputClosed() {
        let isBusy = state.withLockedValue { state in
            state.isInputClosed = true
            return state.onLeave != nil
        }
        if isBusy { leaveSoon() }
    }

    /// Ends what is still under way after a while.
    private func leaveSoon() { eventLoop.scheduleTask(in: Self.halfClosedGrace) { self.left() } }

    func left() {
        let action = state.withLockedValue { state in
            state.isGone = true
            state.kept = nil
            return state.onLeave
        }
        action?()
    }
}
