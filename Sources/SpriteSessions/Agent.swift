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
    /// Larger pipes let a busy command and the event thread take turns less often.
    private static let pipeBytes: Int32 = 256 << 10
    /// Beyond this, descendants of ended commands lose their pipe: a sprite must not take all descriptors of the host.
    private static let lingeringMax = Limits.sessionsPerSpriteMax
    /// What a list shows of a long command line.
    private static let commandBytesMax = 4096

    /// A command that PID 1 was asked to start.
    private struct Pending {
        var live: LiveSession
        var waiter: Waiter<Session>
        var timer: EventLoop.Timer
        /// Pipes: read ends of the outputs; terminal: both ends of the relay.
        var outputs: [Descriptor]
        var input: Descriptor?
        var arguments: [String]
    }

    private struct Hello {
        var waiter: Waiter<Void>
        var timer: EventLoop.Timer
        /// Sessions that are still to be told; nil before the first answer.
        var expected: UInt32?
        var told: Set<UInt64> = []
    }

    let sprite: SpriteID
    private unowned let core: SessionCore
    private var link: AgentLink?
    private var environment: [String: String] = [:]
    private var sessions: [UInt64: LiveSession] = [:]
    private var lingering: [UInt64: LiveSession] = [:]
    private var pending: [UInt64: Pending] = [:]
    private var hello: Hello?
    private var nextNumber: UInt64 = 1

    init(sprite: SpriteID, core: SessionCore) {
        self.sprite = sprite
        self.core = core
    }

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
        case .spawned(let number, _, let path, let directory):
            guard let waiting = take(number) else { return }
            spawned(waiting, path, directory, descriptors)
        case .spawnFailed(let number, let stage, let number2, let text):
            guard let waiting = take(number) else { return }
            failed(waiting, stage, Int32(clamping: number2), text)
        case .ended(let number, let ending): sessions[number]?.ended(ExitStatus(ending))
        }
    }

    private func take(_ number: UInt64) -> Pending? {
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
            SessionFiles(directory: "\(folder)/\(name)").remove()
        }
        hello.waiter.resume()
    }

    // MARK: Adoption

    private func checkKinds(_ descriptors: [Descriptor], _ session: AgentSession) throws {
        guard descriptors.count == session.descriptorCount else { throw WireError.missingDescriptors }
        for (index, descriptor) in descriptors.enumerated() {
            let wanted: Int32 = session.isTerminal && index == 0 ? 2 : 1
            guard clinux_descriptor_kind(descriptor.number) == wanted else {
                throw WireError.badValue("a descriptor of session \(session.id)")
            }
        }
    }

    private func adopt(_ session: AgentSession, _ descriptors: [Descriptor]) throws {
        if let live = sessions[session.id] {
            if let ending = session.ending { live.ended(ExitStatus(ending)) }
            return
        }
        let files = SessionFiles(directory: "\(core.sessionsDirectory(sprite))/\(session.id)")
        let outputs = session.isTerminal ? [] : Array(descriptors.prefix(2))
        guard let record = files.load(id: String(session.id)), record.info.isTerminal == session.isTerminal else {
            guard session.ending == nil else { return discard(session, outputs) }
            return try adopt(session, descriptors, files, recordOfUnknown(session), creating: true)
        }
        try adopt(session, descriptors, files, record, creating: false)
    }

    private func recordOfUnknown(_ session: AgentSession) -> SessionRecord {
        let info = SessionInfo(
            id: String(session.id), command: "(unknown)", directory: "/", isTerminal: session.isTerminal,
            terminalSize: nil, createdAt: .now())
        return SessionRecord(info: info, maxRunAfterDisconnect: session.isTerminal ? nil : .seconds(10))
    }

    private func adopt(
        _ session: AgentSession, _ descriptors: [Descriptor], _ files: SessionFiles, _ record: SessionRecord,
        creating: Bool
    ) throws {
        let outputs: [Descriptor]
        if creating {
            files.remove()
            outputs = try files.create(record)
        } else {
            outputs = try files.open(isTerminal: record.info.isTerminal)
        }
        let live = core.makeSession(session.id, record: record, outputs: outputs, files: files)
        live.session.state.withLock { state in
            for (index, file) in outputs.enumerated() {
                let (start, end) = SessionFiles.extent(file)
                state.streams[index].start = start
                state.streams[index].end = end
            }
        }
        enter(live)
        if session.isTerminal {
            try live.start(master: descriptors[0], relayRead: descriptors[1], relayWrite: descriptors[2])
        } else {
            // A description of our own: the other one could be made blocking from inside.
            var input: Descriptor?
            if session.hasInput, session.ending == nil {
                let number = clinux_reopen_pipe(descriptors[2].number, 1)
                if number >= 0 { input = Descriptor(owning: number) }
            }
            try live.start(pipes: Array(descriptors.prefix(2)), input: input)
        }
        if let ending = session.ending {
            live.endedUnseen = true
            live.ended(ExitStatus(ending))
        } else {
            live.disconnected()
        }
    }

    private func discard(_ session: AgentSession, _ outputs: [Descriptor]) {
        guard let ending = session.ending, !outputs.isEmpty, let sink = try? Descriptor.open("/dev/null", O_WRONLY)
        else {
            link?.send(.release(session: session.id))
            return
        }
        let live = core.makeSession(
            session.id, record: recordOfUnknown(session), outputs: [sink, sink], files: nil)
        enter(live)
        do { try live.start(discarding: outputs) } catch { live.abandonDescendants() }
        live.ended(ExitStatus(ending))
    }

    /// Makes the session known and connects it to PID 1.
    private func enter(_ live: LiveSession) {
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

    // MARK: Commands

    func exec(_ request: ExecRequest, _ waiter: Waiter<Session>) {
        do {
            var spawn = try AgentSpawn(request, sprite: environment)
            guard let link, hello == nil else {
                throw SpriteError(.unavailable, "cannot run the command: the sprite does not run")
            }
            let count = pending.count + sessions.values.filter(\.isRunning).count
            guard count < Limits.sessionsPerSpriteMax else {
                throw SpriteError(
                    .limitReached,
                    "cannot run the command: \(count) run in the sprite, the limit is \(Limits.sessionsPerSpriteMax)")
            }
            spawn.session = nextNumber
            nextNumber += 1
            try start(spawn, request, waiter, link)
        } catch let error as SpriteError {
            waiter.resume(.failure(error))
        } catch {
            let error = SpriteError(
                .internalError, "cannot run the command: the host has no room for another session", cause: error)
            waiter.resume(.failure(error))
        }
    }

    private func start(
        _ spawn: AgentSpawn, _ request: ExecRequest, _ waiter: Waiter<Session>, _ link: AgentLink
    ) throws {
        let info = SessionInfo(
            id: String(spawn.session), command: command(spawn.path, spawn.arguments), directory: spawn.directory,
            isTerminal: spawn.isTerminal, terminalSize: request.terminal, createdAt: .now())
        let record = SessionRecord(info: info, maxRunAfterDisconnect: request.maxRunAfterDisconnect)
        let folder = core.sessionsDirectory(sprite)
        _ = mkdir(folder, 0o700)
        let files = SessionFiles(directory: "\(folder)/\(spawn.session)")
        do {
            let outputs = try files.create(record)
            let pipes = try (0..<(spawn.isTerminal ? 1 : 2)).map { _ in try makePipe(Agent.pipeBytes) }
            var sent = pipes.flatMap { [$0.read, $0.write] }
            var input: Descriptor?
            if spawn.takesInput, !spawn.isTerminal {
                let pipe = try makePipe(0)
                sent += [pipe.read, pipe.write]
                input = Descriptor(owning: try checked(clinux_reopen_pipe(pipe.write.number, 1), "reopen a pipe"))
            }
            let live = core.makeSession(spawn.session, record: record, outputs: outputs, files: files)
            let number = spawn.session
            let timer = core.loop.after(Limits.agentReplyTimeout) { [weak self] in self?.timedOut(number) }
            pending[number] = Pending(
                live: live, waiter: waiter, timer: timer,
                outputs: spawn.isTerminal ? [pipes[0].read, pipes[0].write] : pipes.map(\.read), input: input,
                arguments: spawn.arguments)
            link.send(.spawn(spawn), sent)
        } catch {
            files.remove()
            throw error
        }
    }

    private func makePipe(_ capacity: Int32) throws -> (read: Descriptor, write: Descriptor) {
        var ends: [Int32] = [-1, -1]
        try checked(clinux_pipe(&ends, capacity), "make a pipe")
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }

    private func command(_ path: String, _ arguments: [String]) -> String {
        var text = path.isEmpty ? arguments.first ?? "" : path
        for argument in arguments.dropFirst() where text.utf8.count < Agent.commandBytesMax { text += " " + argument }
        guard text.utf8.count > Agent.commandBytesMax else { return text }
        return String(decoding: text.utf8.prefix(Agent.commandBytesMax), as: UTF8.self)
    }

    private func timedOut(_ number: UInt64) {
        guard let waiting = take(number) else { return }
        link?.send(.signal(session: number, number: UInt32(SIGKILL)))
        link?.send(.release(session: number))
        core.remove(waiting.live)
        waiting.waiter.resume(
            .failure(SpriteError(.timeout, "cannot run the command: the sprite's PID 1 does not answer")))
    }

    private func spawned(_ waiting: Pending, _ path: String, _ directory: String, _ descriptors: [Descriptor]) {
        let live = waiting.live
        live.resolved(command: command(path, waiting.arguments), directory: directory)
        enter(live)
        do {
            if live.session.info.isTerminal {
                guard descriptors.count == 1, clinux_descriptor_kind(descriptors[0].number) == 2 else {
                    throw WireError.missingDescriptors
                }
                try live.start(master: descriptors[0], relayRead: waiting.outputs[0], relayWrite: waiting.outputs[1])
            } else {
                try live.start(pipes: waiting.outputs, input: waiting.input)
            }
        } catch {
            live.signal(SIGKILL)
            live.ended(.lost)
            waiting.waiter.resume(
                .failure(SpriteError(.internalError, "cannot run the command: its output cannot be read", cause: error)))
            return
        }
        live.started()
        waiting.waiter.resume(.success(live.session))
    }

    /// A command that cannot be found or started behaves like one under a shell: a line on standard error, 127 or 126.
    private func failed(_ waiting: Pending, _ stage: UInt8, _ number: Int32, _ text: String) {
        let live = waiting.live
        let noRoom = [EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC].contains(number)
        if stage == AgentStage.user || (stage != AgentStage.exec && stage != AgentStage.directory) {
            core.remove(live)
            let error: SpriteError
            if stage == AgentStage.user {
                error = SpriteError(.invalidRequest, "cannot run the command as \(text)")
            } else if noRoom {
                error = SpriteError(
                    .limitReached, "cannot run the command: the sprite is at its limit of processes or memory (\(text))")
            } else {
                error = SpriteError(.internalError, "cannot run the command: \(text)")
            }
            return waiting.waiter.resume(.failure(error))
        }
        let isMissing = number == ENOENT || number == ENOTDIR
        let stream = live.session.files.count - 1
        let line = Array("sprite-env: \(text)\(live.session.info.isTerminal ? "\r" : "")\n".utf8)
        if pwrite(live.session.files[stream].number, line, line.count, 0) == line.count {
            _ = live.session.state.withLock { $0.append(line.count, to: stream) }
        }
        sessions[live.number] = live
        live.onRetired = { [weak self, number = live.number] in self?.sessions[number] = nil }
        live.ended(.exited(isMissing ? 127 : 126))
        waiting.waiter.resume(.success(live.session))
    }

    // MARK: Questions

    func running() -> [SessionInfo] {
        sessions.values.filter(\.isRunning).sorted { $0.number < $1.number }.map(\.session.info)
    }

    func session(_ id: String) throws -> Session {
        guard let number = UInt64(id), String(number) == id, number > 0, number < nextNumber, pending[number] == nil
        else { throw SpriteError(.notFound, "cannot find session \(id)") }
        guard let live = sessions[number], live.isRunning || live.endedUnseen else {
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
