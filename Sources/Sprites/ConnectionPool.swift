// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore

/// Control connections that are used again, and the bound on the connections of commands.
///
/// Every command takes a place. A control connection whose command ended is kept for the next of the same sprite; every
/// kept connection is read from, so one that ended is known to have.
final class ConnectionPool: Sendable {
    struct Limits: Sendable {
        var connectionsMax: Int
        var idleConnectionsMax: Int
        var idleTimeout: TimeAmount
    }

    private struct Storage {
        var free: Int
        var waiters: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        /// In the order they came; those that gave up are no longer in `waiters`.
        var queue = CircularBuffer<UInt64>()
        var nextWaiter: UInt64 = 0
        var idle: [String: [(channel: any Channel, since: NIODeadline)]] = [:]
        var open: [ObjectIdentifier: any Channel] = [:]
        var withoutControl: Set<String> = []
        var isSweeping = false
        var isClosed = false
    }

    private let dialer: WebSocketDialer
    private let limits: Limits
    private let requestTimeout: Duration
    private let storage: NIOLockedValueBox<Storage>

    init(_ dialer: WebSocketDialer, _ limits: Limits, requestTimeout: Duration) {
        self.dialer = dialer
        self.limits = limits
        self.requestTimeout = requestTimeout
        storage = NIOLockedValueBox(Storage(free: max(1, limits.connectionsMax)))
    }

    // MARK: Places

    private func take() async throws {
        let number = storage.withLockedValue { storage in
            storage.nextWaiter += 1
            return storage.nextWaiter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let result = storage.withLockedValue { storage -> Result<Void, any Error>? in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    if storage.free > 0 {
                        storage.free -= 1
                        return .success(())
                    }
                    storage.waiters[number] = continuation
                    storage.queue.append(number)
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            storage.withLockedValue { $0.waiters.removeValue(forKey: number) }?.resume(throwing: CancellationError())
        }
    }

    private func give() {
        let next = storage.withLockedValue { storage -> CheckedContinuation<Void, any Error>? in
            while let number = storage.queue.popFirst() {
                if let waiter = storage.waiters.removeValue(forKey: number) { return waiter }
            }
            storage.free += 1
            return nil
        }
        next?.resume()
    }

    // MARK: Connections

    /// A control connection to a sprite, with a place taken; nil, and no place, where the server has none.
    func control(_ sprite: Sprite) async throws -> (any Channel)? {
        let name = sprite.name
        guard !storage.withLockedValue({ $0.withoutControl.contains(name) }) else { return nil }
        try await take()
        while let channel = storage.withLockedValue({ $0.idle[name]?.popLast()?.channel }) {
            if channel.isActive { return channel }
        }
        let place = sprite.client.baseURL
        do {
            let channel = try await dialer.connect(sprite.path + "/control", timeout: requestTimeout) {
                [requestTimeout] in
                ExecChannelHandler(.control, state: nil, place: place, answerTimeout: requestTimeout)
            }
            opened(channel)
            return channel
        } catch let error as SpritesError where error.status == 404 && !error.message.hasPrefix("there is no sprite") {
            give()
            storage.withLockedValue { _ = $0.withoutControl.insert(name) }
            return nil
        } catch {
            give()
            throw error
        }
    }

    /// A connection for one command, with a place taken; the handler gives it back with the closure it is made with.
    func direct(
        _ path: String, _ handler: @escaping @Sendable (@escaping @Sendable (Bool) -> Void) -> any ChannelHandler
    ) async throws -> any Channel {
        try await take()
        do {
            let channel = try await dialer.connect(path, timeout: requestTimeout) {
                handler { [weak self] _ in self?.give() }
            }
            opened(channel)
            return channel
        } catch {
            give()
            throw error
        }
    }

    /// A connection that is no command's.
    func outside(_ path: String, _ handler: @escaping @Sendable () -> any ChannelHandler) async throws -> any Channel {
        let channel = try await dialer.connect(path, timeout: requestTimeout, handler: handler)
        opened(channel)
        return channel
    }

    private func opened(_ channel: any Channel) {
        let key = ObjectIdentifier(channel)
        storage.withLockedValue { $0.open[key] = channel }
        channel.closeFuture.whenComplete { [storage] _ in
            storage.withLockedValue { _ = $0.open.removeValue(forKey: key) }
        }
    }

    /// Takes a control connection and its place back; one that is not kept is closed.
    func giveBack(_ channel: any Channel, of sprite: String, keep: Bool) {
        let isKept = storage.withLockedValue { storage -> Bool in
            guard keep, !storage.isClosed, channel.isActive,
                storage.idle[sprite, default: []].count < limits.idleConnectionsMax
            else { return false }
            storage.idle[sprite, default: []].append((channel, .now()))
            if !storage.isSweeping {
                storage.isSweeping = true
                sweepLater(channel.eventLoop)
            }
            return true
        }
        give()
        // One that broke is closed by its handler.
        if keep, !isKept { hangUp(channel) }
    }

    private func hangUp(_ channel: any Channel) { channel.triggerUserOutboundEvent(ExecRequest.hangUp, promise: nil) }

    private func sweepLater(_ eventLoop: any EventLoop) {
        eventLoop.scheduleTask(in: min(limits.idleTimeout, .seconds(5))) { [weak self] in self?.sweep(eventLoop) }
    }

    /// Closes what was idle for too long, until nothing is left.
    private func sweep(_ eventLoop: any EventLoop) {
        let old = storage.withLockedValue { storage -> [any Channel] in
            let limit = NIODeadline.now() - limits.idleTimeout
            var old: [any Channel] = []
            for (sprite, kept) in storage.idle {
                old += kept.filter { $0.since <= limit }.map(\.channel)
                let rest = kept.filter { $0.since > limit && $0.channel.isActive }
                storage.idle[sprite] = rest.isEmpty ? nil : rest
            }
            storage.isSweeping = !storage.idle.isEmpty && !storage.isClosed
            if storage.isSweeping { sweepLater(eventLoop) }
            return old
        }
        for channel in old { hangUp(channel) }
    }

    /// Closes the kept connections of a sprite that is gone.
    func forget(_ sprite: String) {
        let kept = storage.withLockedValue { storage in
            storage.withoutControl.remove(sprite)
            return storage.idle.removeValue(forKey: sprite) ?? []
        }
        for (channel, _) in kept { hangUp(channel) }
    }

    /// Says goodbye on every connection, and waits until all are closed.
    func close() async {
        let open = storage.withLockedValue { storage in
            storage.isClosed = true
            storage.idle = [:]
            return Array(storage.open.values)
        }
        for channel in open { hangUp(channel) }
        // Each is closed in a few seconds, by its server or by its handler.
        for channel in open { try? await channel.closeFuture.get() }
    }
}
