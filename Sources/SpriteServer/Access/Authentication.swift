// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOHTTP1
import SpriteDomain

/// Finds the token of a request: `Bearer TOKEN`, or Basic with the user `bearer` and the token as password.
enum Authentication {
    static func token(_ headers: HTTPHeaders) -> String? {
        guard let field = headers.first(name: "authorization") else { return nil }
        let parts = field.split(separator: " ", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        let value = String(parts[1].drop { $0 == " " })
        switch parts[0].lowercased() {
        case "bearer":
            return value.isEmpty ? nil : value
        case "basic":
            guard let data = Data(base64Encoded: value), let text = String(data: data, encoding: .utf8),
                let colon = text.firstIndex(of: ":"), text[..<colon].lowercased() == "bearer"
            else { return nil }
            return String(text[text.index(after: colon)...])
        default:
            return nil
        }
    }
}

extension APIService {
    /// Throws `.unauthorized`; the sentence never repeats the token.
    func authenticate(_ headers: HTTPHeaders) throws -> AccessGrant {
        guard let token = Authentication.token(headers) else {
            throw SpriteError(
                .unauthorized, "cannot authenticate: the request has no token; send 'Authorization: Bearer TOKEN'")
        }
        guard let grant = configuration.grant(token) else {
            throw SpriteError(
                .unauthorized, "cannot authenticate: the token is not known to this server, or has expired")
        }
        return grant
    }
}

extension Route {
    /// Throws `.forbidden` unless the token's scope covers this path with this method.
    ///
    /// What comes in a body, such as the name of a new sprite, is checked where the body is read.
    ///
    /// - Parameter isUpgrade: For a WebSocket, which can do more than the same path without.
    func check(_ grant: AccessGrant, method: String, isUpgrade: Bool = false) throws {
        let isWriting = isUpgrade ? !isOnlyWatched : method != "GET" && method != "HEAD"
        switch self {
        case .health: return
        // Each tool is checked by itself; a session of the protocol belongs to its token.
        case .mcp: return
        case .sprites where !isWriting: return
        // The name is in the body.
        case .sprites: try grant.requireWrite()
        case .logQuery: try grant.requireAllSprites(toWrite: false)
        case .metrics, .allLogs, .trace: try grant.requireAllSprites(toWrite: isWriting)
        default:
            guard let spriteText else { return try grant.requireAllSprites(toWrite: true) }
            try grant.require(spriteText, toWrite: isWriting)
        }
    }

    /// WebSockets that carry nothing inwards.
    private var isOnlyWatched: Bool {
        switch self {
        case .portWatch, .files(_, .watch): true
        default: false
        }
    }

    /// The sprite that the path names.
    var spriteText: String? {
        switch self {
        case .health, .mcp, .metrics, .allLogs, .logQuery, .trace, .sprites: nil
        case .logs(let name), .sprite(let name), .disk(let name), .upgrade(let name), .stop(let name),
            .restart(let name), .check(let name), .fork(let name), .base(let name), .exec(let name),
            .session(let name, _), .killSession(let name, _), .createCheckpoint(let name), .checkpoints(let name),
            .checkpoint(let name, _), .restore(let name, _), .undoRestore(let name), .pin(let name, _),
            .diff(let name), .attempt(let name), .race(let name), .bisect(let name), .services(let name, _),
            .policy(let name, _), .tasks(let name), .task(let name, _), .secrets(let name),
            .secret(let name, _), .networkContacts(let name),
            .networkSuggestion(let name), .control(let name), .proxy(let name), .portWatch(let name),
            .files(let name, _), .notServed(let name, _):
            name
        }
    }
}
