// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// Where a sprite may connect to: `{"rules":[{"domain":"*.example.com","action":"allow"},{"include":"defaults"}]}`.
    public struct NetworkPolicy: Codable, Sendable, Hashable {
        /// One rule: either a domain with an action, or an include.
        public struct Rule: Codable, Sendable, Hashable {
            /// An exact name, `*.` and a suffix, or `*`.
            public var domain: String?
            /// `allow` or `deny`.
            public var action: String?
            /// Only `defaults`.
            public var include: String?

            /// A rule for a domain.
            public init(domain: String, action: String) {
                self.domain = domain
                self.action = action
            }

            /// A rule for a built-in list.
            public init(include: String) { self.include = include }

            /// Refuses keys that are not known, so that a misspelt rule does not go unnoticed.
            public init(from decoder: any Decoder) throws {
                let object = try decoder.container(keyedBy: TextKey.self)
                try refuseUnknown(object, ["domain", "action", "include"])
                domain = try object.value("domain")
                action = try object.value("action")
                include = try object.value("include")
            }
        }

        /// In the order they were posted.
        public var rules: [Rule]

        /// A policy with these rules.
        public init(rules: [Rule]) { self.rules = rules }

        /// Reads a policy; `rules` must be there.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            try refuseUnknown(object, ["rules"])
            rules = try object.decode([Rule].self, forKey: TextKey("rules"))
        }

        /// Writes the rules.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encode(rules, forKey: TextKey("rules"))
        }
    }

    /// A name or an address that a sprite contacted, or was refused (an addition of this server).
    public struct NetworkContact: Codable, Sendable, Hashable {
        /// A name, or an IPv4 address that no name was asked for.
        public var target: String
        /// Of an address, where its protocol has ports.
        public var port: Int?
        /// False if the network policy refused it.
        public var allowed: Bool
        /// Why it was refused: `unnamed`, `denied`, `alias`, `rebinding`, `flood` or `address`.
        public var reason: String?
        /// How often.
        public var count: Int
        /// RFC 3339.
        public var firstTime: String
        /// RFC 3339.
        public var lastTime: String

        /// A contact.
        public init(
            target: String, port: Int?, allowed: Bool, reason: String?, count: Int, firstTime: String, lastTime: String
        ) {
            self.target = target
            self.port = port
            self.allowed = allowed
            self.reason = reason
            self.count = count
            self.firstTime = firstTime
            self.lastTime = lastTime
        }

        private enum CodingKeys: String, CodingKey {
            case target, port, allowed, reason, count
            case firstTime = "first_time"
            case lastTime = "last_time"
        }
    }

    /// What processes may gain; kept, not enforced.
    public struct PrivilegesPolicy: Codable, Sendable, Hashable {
        /// Empty, `minimal`, `standard` or `privileged`.
        public var profile: String?
        /// Device paths.
        public var devices: [String]?
        /// Whether set-user-id programs are without effect.
        public var noNewPrivileges: Bool?
    }

    /// Memory, as the public API words it; kept, not enforced: limits are set through the sprite's `config`.
    public struct ResourcesPolicy: Codable, Sendable, Hashable {
        /// A limit on memory.
        public struct Memory: Codable, Sendable, Hashable {
            /// In MiB.
            public var limitMB: Int?
            /// Whether the limit follows the use.
            public var autoscale: Bool?

            private enum CodingKeys: String, CodingKey {
                case limitMB = "limit_mb"
                case autoscale
            }
        }

        /// A limit on memory.
        public var memory: Memory?
    }
}

func refuseUnknown(_ object: KeyedDecodingContainer<TextKey>, _ known: Set<String>) throws {
    guard let unknown = object.allKeys.first(where: { !known.contains($0.stringValue) }) else { return }
    throw DecodingError.dataCorrupted(
        .init(codingPath: object.codingPath + [unknown], debugDescription: "unknown key"))
}
