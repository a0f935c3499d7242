// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Policies are kept and returned as they were posted; a GET of one that was never set answers its empty form.
    func serve(_ exchange: Exchange, _ sprite: SpriteName, policy kind: PolicyKind) async throws {
        switch exchange.method {
        case "GET":
            let text = try await control.policy(sprite, kind) ?? kind.empty
            var headers = HTTPHeaders()
            headers.add(name: "content-type", value: "application/json")
            try await exchange.send(.ok, headers, body: .init(string: text))
        case "DELETE":
            try await control.setPolicy(sprite, kind, nil)
            try await exchange.send(.noContent)
        default:
            let text: String
            switch kind {
            case .network: text = try Self.text(try await exchange.requiredBody(API.NetworkPolicy.self).checked())
            case .privileges: text = try Self.text(try await exchange.requiredBody(API.PrivilegesPolicy.self))
            case .resources: text = try Self.text(try await exchange.requiredBody(API.ResourcesPolicy.self))
            case .checkpoints:
                text = try Self.text(try await exchange.requiredBody(API.CheckpointsPolicy.self).checked())
            }
            try await control.setPolicy(sprite, kind, text)
            try await exchange.send(.noContent)
        }
    }

    func listContacts(_ exchange: Exchange, _ sprite: SpriteName) async throws {
        try await exchange.send(json: try await control.networkContacts(sprite).map(wire))
    }

    /// Allows what was contacted, and nothing else.
    func suggestPolicy(_ exchange: Exchange, _ sprite: SpriteName) async throws {
        let targets = try await control.networkContacts(sprite).filter(\.isAllowed).map(\.target)
        let domains = Set(targets).sorted().filter(API.NetworkPolicy.isDomain)
        try await exchange.send(json: API.NetworkPolicy(rules: domains.map { .init(domain: $0, action: "allow") }))
    }

    private func wire(_ contact: NetworkContact) -> API.NetworkContact {
        API.NetworkContact(
            target: contact.target, port: contact.port.map(Int.init), allowed: contact.isAllowed,
            reason: contact.reason?.rawValue, count: contact.count, firstTime: contact.firstAt.text,
            lastTime: contact.lastAt.text)
    }

    private static func text(_ value: some Encodable) throws -> String { String(buffer: try JSONBody.encode(value)) }
}

extension PolicyKind {
    fileprivate var empty: String {
        switch self {
        case .network: #"{"rules":[]}"#
        case .privileges: #"{"devices":[],"noNewPrivileges":false,"profile":""}"#
        case .resources: "{}"
        case .checkpoints: #"{"before_exec":false,"every_minutes":0}"#
        }
    }

    var methods: [String] { self == .network ? ["GET", "HEAD", "POST"] : ["GET", "HEAD", "POST", "DELETE"] }
}

extension API.CheckpointsPolicy {
    func checked() throws -> API.CheckpointsPolicy {
        if let minutes = everyMinutes, minutes != 0, !(0.05...10080).contains(minutes) {
            throw SpriteError(
                .invalidRequest, "invalid policy: every_minutes is \(minutes), use 0.05 to 10080, or 0 for never")
        }
        return self
    }
}

extension API.NetworkPolicy {
    /// Each rule has exactly one of `domain` (with an action) and `include`; there are limits.
    func checked() throws -> API.NetworkPolicy {
        guard rules.count <= 1000 else {
            throw SpriteError(.invalidRequest, "invalid policy: it has \(rules.count) rules, the limit is 1000")
        }
        for (index, rule) in rules.enumerated() {
            let place = "invalid policy: rule \(index + 1)"
            switch (rule.domain, rule.include) {
            case (.some(let domain), nil):
                guard rule.action == "allow" || rule.action == "deny" else {
                    throw SpriteError(.invalidRequest, "\(place) must have the action 'allow' or 'deny'")
                }
                guard API.NetworkPolicy.isDomain(domain) else {
                    throw SpriteError(
                        .invalidRequest, "\(place): the domain must be a host name, '*.' and a host name, or '*'")
                }
            case (nil, .some(let include)):
                guard include == "defaults" else {
                    throw SpriteError(.invalidRequest, "\(place): only 'defaults' can be included")
                }
                guard rule.action == nil || rule.action == "allow" || rule.action == "deny" else {
                    throw SpriteError(.invalidRequest, "\(place): the action must be 'allow' or 'deny'")
                }
            default:
                throw SpriteError(.invalidRequest, "\(place) must have exactly one of 'domain' and 'include'")
            }
        }
        return self
    }

    static func isDomain(_ text: String) -> Bool {
        if text == "*" { return true }
        let name = text.hasPrefix("*.") ? text.dropFirst(2) : Substring(text)
        return (1...253).contains(name.utf8.count)
            && name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.utf8.allSatisfy {
                        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                            || $0 == 0x2D || $0 == 0x5F
                    }
            }
    }
}
