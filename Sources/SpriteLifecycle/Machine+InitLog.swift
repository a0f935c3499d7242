// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

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
    func followInit(_ sandbox: Sandbox) {
        let since = Timestamp.now()
        // Nobody waits for it; it ends with the sandbox.
        Task {
            var pause = Machine.pauseAtFirst
            var since = since
            while self.sandbox == sandbox {
                let begin = ContinuousClock.now
                do {
                    let session = try await initLogSession(sandbox, since: since)
                    _ = try await session.waitForExit()
                } catch {
                    logger.debug("log of the init system not read", metadata: ["error": "\(error)"])
                }
                // One that went on for a while has given everything up to now.
                if ContinuousClock.now - begin > .seconds(10) {
                    since = .now()
                    pause = Machine.pauseAtFirst
                }
                try await Task.sleep(for: pause)
                pause = min(pause * 2, Machine.pauseAtMost)
            }
        }
    }

    private func initLogSession(_ sandbox: Sandbox, since: Timestamp) async throws -> any ExecSession {
        let tag = Machine.initLogTag(sandbox.initSystem)
        let running = await drivers.sessions.taggedSessions(id)
        if let session = running.first(where: { $0.info.tag == tag }) { return session }
        var request = ExecRequest(arguments: initLogCommand(sandbox.initSystem, since: since))
        request.user = "root"
        request.directory = "/"
        request.tag = tag
        request.maxRunAfterDisconnect = nil
        return try await drivers.sessions.exec(id, request)
    }
}

/// By time: the kernel's boot id, by which a journal tells boots apart, is the host's and outlives the sprite's runs.
private func initLogCommand(_ initSystem: InitSystem, since: Timestamp) -> [String] {
    guard initSystem == .systemd else { return ["/.sprite/bin/sprite-env", "console"] }
    let seconds = since.nanoseconds / 1_000_000_000
    let microseconds = since.nanoseconds % 1_000_000_000 / 1000
    let fraction = String(1_000_000 + microseconds).dropFirst()
    return [
        "/bin/sh", "-c",
        "until [ -e /run/systemd/journal/stdout ]; do sleep 0.1; done; "
            + "exec journalctl --since=@\(seconds).\(fraction) --lines=all --follow --no-pager --quiet "
            + "--output=json --output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,"
            + "SYSLOG_IDENTIFIER,_PID",
    ]
}
