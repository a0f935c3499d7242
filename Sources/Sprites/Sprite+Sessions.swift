// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI

extension Sprite {
    /// Commands that run now.
    public func sessions() async throws -> [SessionInfo] {
        try await http.get(path + "/exec", as: API.SessionList.self, timeout: requestTimeout).sessions
    }

    /// Connects to a command that runs: kept output first, then live. While the server cannot be reached it is asked
    /// again, for some seconds.
    ///
    /// - Throws: ``SpritesError``: `.notFound` if there is no such session, or it has ended.
    public func attach(_ sessionID: String) async throws -> RunningCommand {
        let path = path + "/exec/" + API.PercentCoding.encode(sessionID)
        // The session outlives the server: whoever was cut off attaches while it starts again.
        for wait in HTTPTransport.readWaits {
            do {
                return try await RunningCommand.open(path, in: self, isTerminal: false).greeted()
            } catch let error as SpritesError
                where [.connectionLost, .cannotConnect, .unavailable].contains(error.code)
            {
                try await Task.sleep(for: wait)
            }
        }
        return try await RunningCommand.open(path, in: self, isTerminal: false).greeted()
    }

    /// Signals a session and waits for its end.
    ///
    /// - Parameters:
    ///   - signal: A name such as `TERM`.
    ///   - timeout: How long to wait before it is killed; zero means not to wait, nor to kill.
    /// - Returns: The exit code, if it has ended.
    @discardableResult
    public func kill(
        _ sessionID: String, signal: String = "TERM", timeout: Duration = .seconds(10)
    ) async throws -> Int? {
        let query = API.Query([.init("signal", signal), .init("timeout", API.DurationText.text(timeout))])
        let path = path + "/exec/\(API.PercentCoding.encode(sessionID))/kill?" + query.encoded
        var last: API.KillEvent?
        try await http.lines(.POST, path, body: nil, timeout: client.options.requestTimeout + timeout) { line in
            last = try http.decoded(line, as: API.KillEvent.self)
        }
        if let last, last.type == "error" {
            throw SpritesError(.internalError, last.message ?? "cannot signal session \(sessionID)")
        }
        return last?.exitCode
    }
}
