// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    func listSessions(_ exchange: Exchange, _ name: SpriteName) async throws {
        // Asked for on a connection that had served another request, which cannot be upgraded any more.
        if exchange.head.asksForWebSocket {
            throw SpriteError(
                .invalidRequest, "cannot open a WebSocket: it must be the first request of its connection")
        }
        let sessions = try await control.sessions(name)
        try await exchange.send(json: API.SessionList(sessions.map(wire)))
    }

    /// There is nothing to see at a session's path without a WebSocket.
    func getSession(_ exchange: Exchange, _ name: SpriteName) async throws {
        _ = try await control.get(name)
        throw SpriteError(.notFound, "cannot attach: sessions are attached over a WebSocket only")
    }

    /// The session to attach to; one that has ended is as unknown as one that never was.
    ///
    /// Whoever resumes one finds it also for some seconds after its end.
    func session(_ name: SpriteName, _ id: String, _ point: ResumePoint?) async throws -> any ExecSession {
        do {
            return try await control.session(name, id, ended: point != nil)
        } catch let error as SpriteError where error.code == .gone {
            throw SpriteError(.notFound, error.message)
        }
    }

    func killSession(_ exchange: Exchange, _ name: SpriteName, _ id: String) async throws {
        let query = try exchange.target.query()
        let body = try await exchange.body(API.KillSession.self)
        let signalName = query["signal"] ?? body?.signal ?? "SIGTERM"
        guard let signal = API.SignalName.number(signalName) else {
            throw SpriteError(
                .invalidRequest, "cannot send signal '\(signalName.prefix(40))': use a name such as TERM, INT or KILL")
        }
        let timeoutText = query["timeout"] ?? body?.timeout ?? "10s"
        guard let timeout = API.DurationText.parse(timeoutText), timeout <= .seconds(3600) else {
            throw SpriteError(
                .invalidRequest,
                "cannot wait '\(timeoutText.prefix(40))': use a duration such as 10s or 500ms, at most 1h")
        }
        let session = try await control.session(name, id)
        let stream = EventStream(exchange)
        session.signal(signal)
        let shownName = API.SignalName.name(signal)
        try await stream.send([
            API.KillEvent(
                type: "signal", message: "sent \(shownName)", signal: shownName, pid: Int(session.info.id))
        ])
        guard timeout > .zero else {
            try await stream.send([API.KillEvent(type: "complete")])
            try await stream.end()
            return
        }
        var status = try await hangUpAndWait(session, timeout: timeout)
        if let status {
            try await stream.send([
                API.KillEvent(type: "exited", message: "process ended"),
                API.KillEvent(type: "complete", exitCode: Int(status.code)),
            ])
        } else {
            try await stream.send([API.KillEvent(type: "timeout", message: "process did not end within \(timeoutText)")]
            )
            // With a terminal the signal reaches one foreground group at a time: what started it comes next.
            for _ in 0..<20 where status == nil {
                session.signal(9)
                status = try await exit(of: session, within: .milliseconds(250))
            }
            if let status {
                try await stream.send([
                    API.KillEvent(type: "killed", message: "sent SIGKILL"),
                    API.KillEvent(type: "complete", exitCode: Int(status.code)),
                ])
            } else {
                try await stream.send([
                    API.KillEvent(type: "error", message: "process did not end after SIGKILL"),
                    API.KillEvent(type: "complete"),
                ])
            }
        }
        try await stream.end()
    }

    /// Waits for the end; a terminal is hung up soon, since a shell at its prompt ignores SIGTERM.
    private func hangUpAndWait(_ session: any ExecSession, timeout: Duration) async throws -> ExitStatus? {
        let grace = Duration.milliseconds(100)
        guard session.info.isTerminal, timeout > grace else { return try await exit(of: session, within: timeout) }
        if let status = try await exit(of: session, within: grace) { return status }
        session.signal(1)
        return try await exit(of: session, within: timeout - grace)
    }

    private func exit(of session: any ExecSession, within timeout: Duration) async throws -> ExitStatus? {
        try await withThrowingTaskGroup(of: ExitStatus?.self) { group in
            group.addTask { try await session.waitForExit() }
            group.addTask {
                try await Task.sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }
}
