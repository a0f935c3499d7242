// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteDomain

/// What the init system of a base says about its services, as a command of the daemon's own whose output is kept as
/// that of any command.
extension Machine {
    /// Tag of the command.
    static func initLogTag(_ initSystem: InitSystem) -> String { initSystem == .systemd ? "journald" : "console" }
    private static let pauseAtFirst: Duration = .milliseconds(200)
    private static let pauseAtMost: Duration = .seconds(30)

    /// Reads the init system's log as long as the sandbox runs; takes over the command of an earlier daemon.
    ///
    /// The command knows itself where to begin and, where another came before it, where to go on.
    func followInit(_ sandbox: Sandbox) {
        // Nobody waits for it; it ends with the sandbox.
        Task {
            var pause = Machine.pauseAtFirst
            while self.sandbox == sandbox {
                let begin = ContinuousClock.now
                do {
                    let session = try await initLogSession(sandbox)
                    _ = try await session.waitForExit()
                } catch {
                    logger.debug("log of the init system not read", metadata: ["error": "\(error)"])
                }
                if ContinuousClock.now - begin > .seconds(10) { pause = Machine.pauseAtFirst }
                try await Task.sleep(for: pause)
                pause = min(pause * 2, Machine.pauseAtMost)
            }
        }
    }

    private func initLogSession(_ sandbox: Sandbox) async throws -> any ExecSession {
        if let session = await runningInitLog(sandbox) { return session }
        let isJournald = sandbox.initSystem == .systemd
        var request = ExecRequest(arguments: ["/.sprite/bin/sprite-env", isJournald ? "journald" : "console"])
        request.user = "root"
        request.directory = "/"
        request.tag = Machine.initLogTag(sandbox.initSystem)
        request.maxRunAfterDisconnect = nil
        return try await drivers.sessions.exec(id, request)
    }

    private func runningInitLog(_ sandbox: Sandbox) async -> (any ExecSession)? {
        let tag = Machine.initLogTag(sandbox.initSystem)
        return await drivers.sessions.taggedSessions(id).first { $0.info.tag == tag }
    }

    /// Has the log read to its end before everything inside is killed; the caller holds the turn.
    ///
    /// Readers of journald's files are told late of what was written; the console is read at once. Whatever goes on
    /// inside, it takes no longer than `Limits.initLogEndTimeout`: what was not read then is not recorded.
    func readInitLogToItsEnd() async {
        guard let sandbox, sandbox.initSystem == .systemd, let session = await runningInitLog(sandbox) else { return }
        if isFrozen {
            do { try await drivers.sandboxes.thaw(sandbox.id) } catch { return }
        }
        await drivers.journal.span("init.log", sprite: id) {
            session.signal(SIGTERM)
            await withTaskGroup(of: Void.self) { group in
                group.addTask { _ = try? await session.waitForExit() }
                group.addTask { try? await Task.sleep(for: Limits.initLogEndTimeout) }
                await group.next()
                group.cancelAll()
            }
        }
    }
}
