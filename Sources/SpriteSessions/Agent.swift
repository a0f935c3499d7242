// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteAgentWire
import SpriteDomain
import SpriteSystem
import Synchronization

/// One sprite's PID 1 and its sessions. On the event thread.
final class Agent {
    /// Beyond this, descendants of ended commands lose their pipe: a sprite must not take all descriptors of the host.
    private static let lingeringMax = Limits.sessionsPerSpriteMax

    /// A command that PID 1 was asked to start.
    struct Pending {
        var live: LiveSession
        var waiter: Waiter<Session>
        var timer: EventLoop.Timer
        /// Pipes: read ends of the outputs; terminal: both ends of the relay.
        var outputs: [Descriptor]
        var input: Descriptor?
        var arguments: [String]
        var user: String?
        var trace: TraceID?
    }

    private struct Hello {
        var waiter: Waiter<Void>
        var timer: EventLoop.Timer
        /// Sessions that are still to be told; nil before the first answer.
        var expected: UInt32?
        var told: Set<UInt64> = []
    }

    let sprite: SpriteID
    /// Which socket of that path it was: the next sandbox's has the same path.
    var socketInode: UInt64?
    unowned let core: SessionCore
    var link: AgentLink?
    var environment: [String: String] = [:]
    var sessions: [UInt64: LiveSession] = [:]
    var lingering: [UInt64: LiveSession] = [:]
    var pending: [UInt64: Pending] = [:]
    private var hello: Hello?
    /// Told when the connection ends, whoever ended it.
    var lossWaiters: [Waiter<Void>] = []
    var nextNumber: UInt64 = 1

    init(sprite: SpriteID, core: SessionCore) {
        self.sprite = sprite
        self.core = core
    }

    /// Connected, and PID 1 has told all it keeps.
    var readyLink: AgentLink? { hello == nil ? link : nil }

    // MARK: Connection

    func connect(_ socket: Descriptor, _ setup: AgentSetup, within limit: Duration, _ waiter: Waiter<Void>) {
        closeLink(SpriteError(.unavailable, "cannot reach the sprite: another connection replaced this one"))
        environment = setup.environment
        let link = AgentLink(loop: core.loop, socket: socket)
        link.onEvent = { [weak self] in try self?.handle($0, $1) }
        link.onClose = { [weak self] in self?.linkClosed($0) }
        do {
            try link.start()
        } catch {
            return waiter.resume(.failure(SpriteError(.internalError, "cannot reach the sprite", cause: error)))
        }
        let timer = core.loop.after(limit) { [weak self] in
            self?.closeLink(SpriteError(.timeout, "cannot reach the sprite: its PID 1 does not answer"))
        }
        self.link = link
        hello = Hello(waiter: waiter, timer: timer)
        link.send(.setup(hostname: setup.hostname, nameServers: setup.nameServers))
    }

    private func linkClosed(_ reason: any Error) {
        // A sandbox that stops closes it as well; only a broken form is worth a look.
        core.logger.log(
            level: reason is WireError ? .warning : .debug, "connection to PID 1 ended",
            metadata: ["sprite.id": "\(sprite)", "error": "\(reason)"])
        closeLink(SpriteError(.unavailable, "cannot reach the sprite: its PID 1 is gone", cause: reason))
        tellLoss()
    }

    private func tellLoss() {
        for waiter in lossWaiters { waiter.resume() }
        lossWaiters = []
    }

    private func closeLink(_ error: SpriteError) {
        link?.close()
        link = nil
        if let hello {
            core.loop.cancel(hello.timer)
            hello.waiter.resume(.failure(error))
        }
        hello = nil
        for (_, waiting) in pending {
            core.loop.cancel(waiting.timer)
            core.remove(waiting.live)
            waiting.waiter.resume(.failure(error))
        }
        pending = [:]
    }

    /// The sandbox is gone.
    func disconnect() {
        closeLink(SpriteError(.unavailable, "cannot run the command: the sprite has stopped"))
        for live in sessions.values {
            live.send = { _ in }
            live.onRetired = {}
            live.removeFiles()
            live.ended(.lost)
        }
        for live in lingering.values { live.abandonDescendants() }
        sessions = [:]
        lingering = [:]
        tellLoss()
    }

    func drop() {
        link?.close()
        link = nil
    }

    // MARK: Events

    private func handle(_ event: AgentEvent, _ descriptors: [Descriptor]) throws {
        switch event {
        case .hello(let lastSession, let sessionCount):
            guard hello != nil, hello?.expected == nil else { throw WireError.badValue("a second hello") }
            guard sessionCount <= 4 * Limits.sessionsPerSpriteMax else {
                throw WireError.tooLong(Int(sessionCount), limit: 4 * Limits.sessionsPerSpriteMax)
            }
            guard lastSession < 1 << 53 else { throw WireError.badValue("session \(lastSession)") }
            nextNumber = max(nextNumber, lastSession + 1)
            hello?.expected = sessionCount
            helloProgressed()
        case .session(let session):
            guard let expected = hello?.expected, expected > 0, session.id < nextNumber,
                hello?.told.insert(session.id).inserted == true
            else { throw WireError.badValue("session \(session.id) out of turn") }
            try checkKinds(descriptors, session)
            try adopt(session, descriptors)
            hello?.expected = expected - 1
            helloProgressed()
        case .spawned(let number, let process, let path, let directory):
            guard let waiting = take(number) else { return }
            waiting.live.process = Int32(clamping: process)
            spawned(waiting, path, directory, descriptors)
        case .spawnFailed(let number, let stage, let number2, let text):
            guard let waiting = take(number) else { return }
            failed(waiting, stage, Int32(clamping: number2), text)
        case .ended(let number, let ending): sessions[number]?.ended(ExitStatus(ending))
        }
    }

    func take(_ number: UInt64) -> Pending? {
        guard let waiting = pending.removeValue(forKey: number) else { return nil }
        core.loop.cancel(waiting.timer)
        return waiting
    }

    private func helloProgressed() {
        guard let hello, hello.expected == 0 else { return }
        self.hello = nil
        core.loop.cancel(hello.timer)
        for (number, live) in sessions where !hello.told.contains(number) && live.isRunning { live.ended(.lost) }
        // Folders of commands that PID 1 never got, or that were let go just before a daemon was killed.
        let folder = core.sessionsDirectory(sprite)
        for name in SessionFiles.names(in: folder) where UInt64(name).map({ sessions[$0] == nil }) ?? true {
            if let aside = core.aside {
                aside.put("\(folder)/\(name)", sprite, name)
            } else {
                SessionFiles(directory: "\(folder)/\(name)").remove()
            }
        }
        hello.waiter.resume()
    }

    /// Makes the session known and connects it to PID 1.
    func enter(_ live: LiveSession) {
        let number = live.number
        sessions[number] = live
        live.send = { [weak self] in self?.link?.send($0) }
        live.onRetired = { [weak self] in
            guard let self, let live = sessions.removeValue(forKey: number) else { return }
            if lingering.count >= Agent.lingeringMax { lingering.first?.value.abandonDescendants() }
            lingering[number] = live
        }
        let forget = live.onReleased
        live.onReleased = { [weak self] in
            self?.lingering[number] = nil
            forget()
        }
    }

    // MARK: Questions

    func running() -> [SessionInfo] {
        sessions.values.filter(\.isRunning).sorted { $0.number < $1.number }.map(\.session.info)
            .filter { $0.tag == nil }
    }

    func tagged() -> [Session] {
        sessions.values.filter { $0.isRunning && $0.session.info.tag != nil }
            .sorted { $0.number < $1.number }.map(\.session)
    }

    /// - Parameter ended: Also one that has ended and is kept for a client that may not have everything.
    func session(_ id: String, ended: Bool) throws -> Session {
        guard let number = UInt64(id), String(number) == id, number > 0, number < nextNumber, pending[number] == nil
        else { throw SpriteError(.notFound, "cannot find session \(id)") }
        guard let live = sessions[number], live.isRunning || live.endedUnseen || ended && live.isKept,
            live.session.info.tag == nil
        else {
            throw SpriteError(.gone, "cannot reach session \(id): it has ended")
        }
        return live.session
    }
}

extension ExitStatus {
    init(_ ending: AgentEnding) {
        switch ending {
        case .exited(let status): self = .exited(status)
        case .signaled(let number): self = .signaled(number)
        }
    }
}
