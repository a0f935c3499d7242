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
    func authenticate(_ headers: HTTPHeaders) throws {
        guard let token = Authentication.token(headers) else {
            throw SpriteError(
                .unauthorized, "cannot authenticate: the request has no token; send 'Authorization: Bearer TOKEN'")
        }
        guard configuration.verifyToken(token) else {
            throw SpriteError(.unauthorized, "cannot authenticate: the token is not known to this server")
        }
    }
}
