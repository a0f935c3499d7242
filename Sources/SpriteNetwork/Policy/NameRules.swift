// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import SpriteDomain

/// The rules of one sprite, ready to be asked about names.
///
/// The most specific rule wins: an exact name, then the longest `*.suffix`, then `*`; among equal ones the last. A rule
/// wins over an include of the same specificity. What no rule names is denied. A rule whose domain is an IPv4 address
/// opens that address, which no name has to lead to.
package struct NameRules: Sendable {
    /// What the rules say of a name.
    package enum Decision: Sendable, Hashable {
        /// `byExactName` if a rule names exactly this name: then nobody can carry data out in its labels.
        case allowed(byExactName: Bool)
        /// A rule says so.
        case denied
        /// No rule names it, which denies it as well.
        case unnamed
    }

    /// Addresses that rules open by themselves.
    package private(set) var addresses: [IPv4Address] = []
    private var exact: [String: Bool] = [:]
    private var suffixes: [String: Bool] = [:]
    private var any: Bool?

    /// Reads a policy as it was posted; nil if it has no rules, which restricts nothing.
    package init?(policy text: String) throws {
        let body: Body
        do { body = try JSONDecoder().decode(Body.self, from: Data(text.utf8)) } catch {
            throw SpriteError(.internalError, "cannot read the network policy that was kept", cause: error)
        }
        if body.rules.isEmpty { return nil }
        for rule in body.rules where rule.include == "defaults" {
            for domain in DefaultNames.all { add(domain, rule.action != "deny") }
        }
        for rule in body.rules {
            if let domain = rule.domain { add(domain, rule.action == "allow") }
        }
    }

    private mutating func add(_ domain: String, _ isAllowed: Bool) {
        if let address = IPv4Address(domain) {
            addresses.removeAll { $0 == address }
            if isAllowed { addresses.append(address) }
        } else if domain == "*" {
            any = isAllowed
        } else if domain.hasPrefix("*.") {
            suffixes[domain.dropFirst(2).lowercased()] = isAllowed
        } else {
            exact[domain.lowercased()] = isAllowed
        }
    }

    /// - Parameter name: In lower case, without a dot at its end.
    package func decide(_ name: String) -> Decision {
        if let isAllowed = exact[name] { return isAllowed ? .allowed(byExactName: true) : .denied }
        var rest = Substring(name)
        while true {
            if let isAllowed = suffixes[String(rest)] { return isAllowed ? .allowed(byExactName: false) : .denied }
            guard let dot = rest.firstIndex(of: ".") else { break }
            rest = rest[rest.index(after: dot)...]
        }
        guard let any else { return .unnamed }
        return any ? .allowed(byExactName: false) : .denied
    }

    /// Whether a rule other than `*` says something of the name.
    package func names(_ name: String) -> Bool {
        if exact[name] != nil { return true }
        var rest = Substring(name)
        while true {
            if suffixes[String(rest)] != nil { return true }
            guard let dot = rest.firstIndex(of: ".") else { return false }
            rest = rest[rest.index(after: dot)...]
        }
    }

    private struct Body: Decodable {
        var rules: [Rule]
    }

    private struct Rule: Decodable {
        var domain: String?
        var action: String?
        var include: String?
    }
}
