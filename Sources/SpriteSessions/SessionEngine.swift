// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import Logging
import SpriteAgentWire
package import SpriteDomain
import SpriteSystem

/// Runs commands in sprites through their PID 1 and keeps what they print where it outlives this process.
package final class SessionEngine: SessionDriver {
    private static let retryPause: Duration = .milliseconds(5)
    /// The socket listens before the sandbox starts: nobody listening means that PID 1 is gone.
    private static let refusalsMax = 200

    private let runDirectory: String
    private let thread: EventThread
    private let aside: AsideFolder?

    /// - Parameters:
    ///   - runDirectory: On tmpfs, and the same after a restart; made if it does not exist.
    ///   - recorder: Is told of every session and reads what it prints.
    package init(runDirectory: String, recorder: (any OutputRecorder)? = nil, logger: Logger) throws {
        self.runDirectory = runDirectory
        aside = recorder.map { AsideFolder(path: "\(runDirectory)/ended", recorder: $0) }
        for folder in [runDirectory, "\(runDirectory)/agents", "\(runDirectory)/sessions", "\(runDirectory)/ended"]
        where mkdir(folder, 0o700) < 0 && errno != EEXIST { throw SystemError(errno, "create \(folder)") }
        // Input for a command that has closed its standard input must not end the daemon.
        signal(SIGPIPE, SIG_IGN)
        // Up to six descriptors per session.
        clinux_limit_files(0)
        thread = try EventThread.start { [aside] loop, thread in
            SessionCore(loop: loop, thread: thread, runDirectory: runDirectory, aside: aside, logger: logger)
        }
        aside?.takeOver()
    }

    deinit { thread.stop { $0.drop() } }

    /// Lets go of everything; commands go on, and another engine can take them over.
    package func stop() async {
        await withCheckedContinuation { continuation in
            thread.stop {
                $0.drop()
                continuation.resume()
            }
        }
    }

    package func listen(_ sprite: SpriteID) throws -> Int32 {
        removeSessions(sprite)
        let result = clinux_unix_listen(socketPath(sprite), 16)
        guard result >= 0 else {
            throw SpriteError(
                .internalError, "cannot start the sprite: its socket cannot be made",
                cause: SystemError(-result, "listen on \(socketPath(sprite))"))
        }
        return result
    }

    package func connect(_ sprite: SpriteID, setup: AgentSetup) async throws {
        let clock = ContinuousClock()
        let deadline = clock.now + Limits.startTimeout
        var refusals = 0
        while true {
            let number = clinux_unix_connect(socketPath(sprite))
            if number >= 0 {
                let socket = Descriptor(owning: number)
                let waiter = Waiter<Void>()
                let rest = deadline - clock.now
                let inode = socketInode(sprite)
                post(waiter) { core in
                    let agent = core.agents[sprite] ?? Agent(sprite: sprite, core: core)
                    core.agents[sprite] = agent
                    agent.socketInode = inode
                    agent.connect(socket, setup, within: rest, waiter)
                }
                return try await waiter.wait()
            }
            if number != -EAGAIN { refusals += 1 }
            guard refusals < SessionEngine.refusalsMax, clock.now < deadline else {
                throw SpriteError(
                    .unavailable, "cannot reach the sprite: its PID 1 is gone",
                    cause: SystemError(-number, "connect to \(socketPath(sprite))"))
            }
            try await Task.sleep(for: SessionEngine.retryPause)
        }
    }

    package func setEnvironment(_ sprite: SpriteID, _ environment: [String: String]) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isPosted = thread.post { core in
                core.agents[sprite]?.environment = environment
                continuation.resume()
            }
            if !isPosted { continuation.resume() }
        }
    }

    package func disconnect(_ sprite: SpriteID) async {
        // Not through a waiter: a cancelled caller's cleanup is done all the same.
        let inode = await withCheckedContinuation { (continuation: CheckedContinuation<UInt64?, Never>) in
            let isPosted = thread.post { core in
                let agent = core.agents.removeValue(forKey: sprite)
                agent?.disconnect()
                continuation.resume(returning: agent?.socketInode)
            }
            if !isPosted { continuation.resume(returning: nil) }
        }
        removeSessions(sprite)
        // Another inode belongs to the next sandbox, which is being made already.
        if let inode {
            if inode == socketInode(sprite) { unlink(socketPath(sprite)) }
            return
        }
        // Never connected: a start that failed, or a sandbox that ended while no daemon was there.
        let number = clinux_unix_connect(socketPath(sprite))
        if number >= 0 { close(number) } else if number == -ECONNREFUSED { unlink(socketPath(sprite)) }
    }

    package func shutDown(_ sprite: SpriteID) async {
        _ = thread.post { $0.agents[sprite]?.link?.send(.shutdown) }
    }

    package func waitForLoss(_ sprite: SpriteID) async {
        let waiter = Waiter<Void>()
        post(waiter) { core in
            guard let agent = core.agents[sprite], agent.readyLink != nil else { return waiter.resume() }
            agent.lossWaiters.append(waiter)
        }
        _ = try? await waiter.wait()
    }

    package func exec(_ sprite: SpriteID, _ request: ExecRequest) async throws -> any ExecSession {
        let waiter = Waiter<Session>()
        let trace = TraceContext.current?.trace
        post(waiter) { core in
            guard let agent = core.agents[sprite] else {
                let error = SpriteError(.unavailable, "cannot run the command: the sprite does not run")
                return waiter.resume(.failure(error))
            }
            agent.exec(request, trace, waiter)
        }
        return try await waiter.wait()
    }

    package func sessions(_ sprite: SpriteID) async -> [SessionInfo] {
        let waiter = Waiter<[SessionInfo]>()
        post(waiter) { waiter.resume(.success($0.agents[sprite]?.running() ?? [])) }
        return (try? await waiter.wait()) ?? []
    }

    package func taggedSessions(_ sprite: SpriteID) async -> [any ExecSession] {
        let waiter = Waiter<[Session]>()
        post(waiter) { waiter.resume(.success($0.agents[sprite]?.tagged() ?? [])) }
        return (try? await waiter.wait()) ?? []
    }

    package func session(_ sprite: SpriteID, _ id: String, ended: Bool) async throws -> any ExecSession {
        let waiter = Waiter<Session>()
        post(waiter) { core in
            waiter.resume(
                Result {
                    guard let agent = core.agents[sprite] else {
                        throw SpriteError(.notFound, "cannot find session \(id)")
                    }
                    return try agent.session(id, ended: ended)
                })
        }
        return try await waiter.wait()
    }

    private func post<Value>(_ waiter: Waiter<Value>, _ job: @escaping EventThread.Job) {
        if !thread.post(job) {
            waiter.resume(.failure(SpriteError(.unavailable, "cannot reach the sprite: the daemon is stopping")))
        }
    }

    private func socketPath(_ sprite: SpriteID) -> String { "\(runDirectory)/agents/\(sprite).sock" }

    private func socketInode(_ sprite: SpriteID) -> UInt64? {
        var facts = stat()
        return stat(socketPath(sprite), &facts) == 0 ? UInt64(facts.st_ino) : nil
    }

    private func removeSessions(_ sprite: SpriteID) {
        let folder = "\(runDirectory)/sessions/\(sprite)"
        for name in SessionFiles.names(in: folder) {
            if let aside {
                aside.put("\(folder)/\(name)", sprite, name)
            } else {
                SessionFiles(directory: "\(folder)/\(name)").remove()
            }
        }
        rmdir(folder)
    }
}
