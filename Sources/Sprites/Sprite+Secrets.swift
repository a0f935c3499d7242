// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI

/// A secret that a sprite's requests to one host carry, without its value.
public typealias Secret = API.Secret

extension Sprite {
    /// Secrets that the sprite's requests carry, by their ids; their values are never told.
    public func secrets() async throws -> [Secret] {
        try await http.get(path + "/secrets", as: API.SecretList.self, timeout: requestTimeout).secrets
    }

    /// Gives the sprite a secret for one host, or replaces it; from when this returns its HTTPS requests carry it.
    ///
    /// - Parameters:
    ///   - header: Nil for `authorization`.
    ///   - format: What the header says, with `{}` in the place of the value; nil for `Bearer {}` in `authorization` and
    ///     for the value alone in another header.
    public func setSecret(
        _ id: String, host: String, value: String, header: String? = nil, format: String? = nil
    ) async throws {
        let body = API.SetSecret(host: host, value: value, header: header, format: format)
        _ = try await http.send(
            .PUT, path + "/secrets/" + API.PercentCoding.encode(id), body: try http.encoded(body),
            timeout: requestTimeout)
    }

    /// Takes a secret away; connections that carry it are cut.
    public func removeSecret(_ id: String) async throws {
        _ = try await http.send(.DELETE, path + "/secrets/" + API.PercentCoding.encode(id), timeout: requestTimeout)
    }
}
