// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI

/// Where a sprite may connect to.
public typealias NetworkPolicy = API.NetworkPolicy
/// One rule of a network policy.
public typealias PolicyRule = API.NetworkPolicy.Rule
/// What a sprite contacted, or was refused.
public typealias NetworkContact = API.NetworkContact

extension Sprite {
    /// The rules that hold; none means that everything but private networks is allowed.
    public func networkPolicy() async throws -> NetworkPolicy {
        try await http.get(path + "/policy/network", as: NetworkPolicy.self, timeout: requestTimeout)
    }

    /// Replaces the rules; they are in force when this returns, for connections that are open as well.
    public func setNetworkPolicy(_ policy: NetworkPolicy) async throws {
        _ = try await http.send(
            .POST, path + "/policy/network", body: try http.encoded(policy), timeout: requestTimeout)
    }

    /// What the sprite contacted and was refused since the server started, oldest first.
    public func networkContacts() async throws -> [NetworkContact] {
        try await http.get(path + "/policy/network/contacts", as: [NetworkContact].self, timeout: requestTimeout)
    }

    /// A policy that allows what the sprite contacted, and nothing else.
    public func suggestedNetworkPolicy() async throws -> NetworkPolicy {
        try await http.get(path + "/policy/network/suggestion", as: NetworkPolicy.self, timeout: requestTimeout)
    }
}
