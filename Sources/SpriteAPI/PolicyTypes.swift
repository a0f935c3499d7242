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

private func refuseUnknown(_ object: KeyedDecodingContainer<TextKey>, _ known: Set<String>) throws {
    guard let unknown = object.allKeys.first(where: { !known.contains($0.stringValue) }) else { return }
    throw DecodingError.dataCorrupted(
        .init(codingPath: object.codingPath + [unknown], debugDescription: "unknown key"))
}
