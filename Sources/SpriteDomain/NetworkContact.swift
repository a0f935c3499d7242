// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A name or an address that a sprite contacted or was refused.
package struct NetworkContact: Sendable, Hashable {
    /// Why it was refused.
    package enum Reason: String, Sendable, Hashable {
        /// No rule of the policy names it.
        case unnamed
        /// A rule denies it.
        case denied
        /// It led to a name that a rule denies.
        case alias
        /// It led to a private address.
        case rebinding
        /// More, or longer, names than a sprite may ask for in a time: data carried out in questions looks like that.
        case flood
        /// Nothing allowed leads to this address.
        case address
    }

    /// A name, or an IPv4 address that no name was asked for.
    package var target: String
    package var port: UInt16?
    package var isAllowed: Bool
    package var reason: Reason?
    package var count: Int
    package var firstAt: Timestamp
    package var lastAt: Timestamp

    package init(
        target: String, port: UInt16?, isAllowed: Bool, reason: Reason?, count: Int, firstAt: Timestamp,
        lastAt: Timestamp
    ) {
        self.target = target
        self.port = port
        self.isAllowed = isAllowed
        self.reason = reason
        self.count = count
        self.firstAt = firstAt
        self.lastAt = lastAt
    }
}

extension NetworkContact {
    /// As the journal keeps it.
    package func record(_ sprite: SpriteID) -> JournalRecord {
        let place = port.map { "\(target):\($0)" } ?? target
        var fields: [(name: String, value: RecordValue)] = [("target", .text(target))]
        if let port { fields.append(("port", .number(Int64(port)))) }
        if let reason { fields.append(("reason", .text(reason.rawValue))) }
        return isAllowed
            ? JournalRecord("policy.contact", sprite: sprite, "first contact with \(place)", fields: fields)
            : JournalRecord(
                "policy.refused", level: .warning, sprite: sprite, "refused by the network policy: \(place)",
                fields: fields)
    }
}

/// A limit of a sprite's network that was reached.
package enum NetworkLimitHit: String, Sendable, Hashable {
    case connections, bandwidth

    /// As the journal keeps it.
    package func record(_ sprite: SpriteID) -> JournalRecord {
        let text =
            switch self {
            case .connections: "new connections were refused: as many as its limit allows are open"
            case .bandwidth: "packets were dropped: its limit of bandwidth was reached"
            }
        return JournalRecord(
            "sprite.network_limit", level: .warning, sprite: sprite, text, fields: [("limit", .text(rawValue))])
    }
}
