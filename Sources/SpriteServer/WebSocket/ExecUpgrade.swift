// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Decides whether a request for a WebSocket gets one: who asks, whether the sprite is there, whether the query is
    /// understood. The command itself is started after the upgrade.
    @Sendable func decideUpgrade(_ head: HTTPRequestHead) async -> UpgradeDecision {
        do {
            return try await acceptUpgrade(head) ?? .refuse(nil)
        } catch {
            return .refuse(error)
        }
    }

    /// Nil for a path that has no WebSocket, which is answered like an ordinary request.
    private func acceptUpgrade(_ head: HTTPRequestHead) async throws -> UpgradeDecision? {
        let target = RequestTarget(head.uri)
        let name: SpriteName
        var sessionID: String?
        switch target.segments.flatMap(Route.init) {
        case .exec(let text):
            try authenticate(head.headers)
            name = try spriteName(text)
        case .session(let text, let id):
            try authenticate(head.headers)
            name = try spriteName(text)
            sessionID = id
        default:
            return nil
        }
        _ = try await control.get(name)
        let query = try target.query()
        // The older form of attaching; with either, clients repeat other parameters, which mean nothing then.
        sessionID = sessionID ?? query["id"].flatMap { $0.isEmpty ? nil : $0 }
        let socket: ExecSocket
        if let sessionID {
            let session = try await session(name, sessionID)
            socket = ExecSocket(service: self, isOwner: false, wantsTerminal: session.info.isTerminal) { session }
        } else {
            let request = try execRequest(try API.ExecQuery.checked(query))
            socket = ExecSocket(service: self, isOwner: true, wantsTerminal: request.terminal != nil) { [control] in
                try await control.exec(name, request)
            }
        }
        let requestID = String(UInt64.random(in: (1 << 60)...(.max)), radix: 16)
        let start = ContinuousClock.now
        let headers: HTTPHeaders = [
            "sprite-version": configuration.version, "x-sprite-capabilities": "signal", "x-request-id": requestID,
        ]
        return .accept(headers: headers) { connection in
            await socket.serve(connection, requestID: requestID)
            log(method: head.method, path: target.path, status: 101, id: requestID, since: start)
        }
    }
}
