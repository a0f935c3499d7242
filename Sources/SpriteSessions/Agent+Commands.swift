// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteDomain
import SpriteSystem
import Synchronization

/// Starting commands.
extension Agent {
    /// Larger pipes let a busy command and the event thread take turns less often.
    private static let pipeBytes: Int32 = 256 << 10
    /// What a list shows of a long command line.
    private static let commandBytesMax = 4096

    func exec(_ request: ExecRequest, _ trace: TraceID?, _ waiter: Waiter<Session>) {
        do {
            var spawn = try AgentSpawn(request, sprite: environment)
            guard let link = readyLink else {
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
            try start(spawn, request, trace, waiter, link)
        } catch let error as SpriteError {
            waiter.resume(.failure(error))
        } catch {
            let error = SpriteError(
                .internalError, "cannot run the command: the host has no room for another session", cause: error)
            waiter.resume(.failure(error))
        }
    }

    private func start(
        _ spawn: AgentSpawn, _ request: ExecRequest, _ trace: TraceID?, _ waiter: Waiter<Session>, _ link: AgentLink
    ) throws {
        var info = SessionInfo(
            id: String(spawn.session), command: command(spawn.path, spawn.arguments), directory: spawn.directory,
            isTerminal: spawn.isTerminal, terminalSize: request.terminal, createdAt: .now())
        info.tag = request.tag
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
            let live = core.makeSession(
                spawn.session, of: sprite, record: record, outputs: outputs, files: files)
            let number = spawn.session
            let timer = core.loop.after(Limits.agentReplyTimeout) { [weak self] in self?.timedOut(number) }
            pending[number] = Pending(
                live: live, waiter: waiter, timer: timer,
                outputs: spawn.isTerminal ? [pipes[0].read, pipes[0].write] : pipes.map(\.read), input: input,
                arguments: spawn.arguments, user: request.user, trace: trace)
            link.send(.spawn(spawn), sent)
        } catch {
            files.remove()
            throw error
        }
    }

    /// What the journal is told: as much of a long list of arguments as a list shows.
    private func start(of waiting: Pending) -> CommandStart {
        var arguments: [String] = []
        var bytes = 0
        for argument in waiting.arguments where bytes < Agent.commandBytesMax {
            let text = String(decoding: argument.utf8.prefix(Agent.commandBytesMax - bytes), as: UTF8.self)
            bytes += text.utf8.count
            arguments.append(text)
        }
        return CommandStart(arguments: arguments, user: waiting.user, trace: waiting.trace)
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

    func spawned(_ waiting: Pending, _ path: String, _ directory: String, _ descriptors: [Descriptor]) {
        let live = waiting.live
        live.resolved(command: command(path, waiting.arguments), directory: directory)
        enter(live)
        live.holdForReader()
        live.openForJournal(start(of: waiting))
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
                .failure(SpriteError(.internalError, "cannot run the command: its output cannot be read", cause: error))
            )
            return
        }
        live.started()
        waiting.waiter.resume(.success(live.session))
    }

    /// A command that cannot be found or started behaves like one under a shell: a line on standard error, 127 or 126.
    func failed(_ waiting: Pending, _ stage: UInt8, _ number: Int32, _ text: String) {
        let live = waiting.live
        let noRoom = [EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC].contains(number)
        if stage == AgentStage.user || (stage != AgentStage.exec && stage != AgentStage.directory) {
            core.remove(live)
            let error: SpriteError
            if stage == AgentStage.user {
                error = SpriteError(.invalidRequest, "cannot run the command as \(text)")
            } else if noRoom {
                error = SpriteError(
                    .limitReached, "cannot run the command: the sprite is at its limit of processes or memory (\(text))"
                )
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
        live.openForJournal(start(of: waiting))
        sessions[live.number] = live
        live.onRetired = { [weak self, number = live.number] in self?.sessions[number] = nil }
        live.ended(.exited(isMissing ? 127 : 126))
        waiting.waiter.resume(.success(live.session))
    }
}
