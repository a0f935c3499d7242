// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// The body of `POST /v1/sprites/{name}/base` (an addition of this server); may be absent.
    public struct UpgradeBase: Codable, Sendable {
        /// A base or a version of one, such as `debian-bookworm@2`; nil or empty: the newest of what the sprite has.
        public var base: String?
        /// Only report what would be hidden.
        public var isTrial: Bool?

        /// A request for the newest version.
        public init(base: String? = nil, isTrial: Bool? = nil) {
            self.base = base
            self.isTrial = isTrial
        }

        private enum CodingKeys: String, CodingKey {
            case base
            case isTrial = "dry_run"
        }
    }

    /// The answer to ``UpgradeBase``.
    ///
    /// ```json
    /// {"from": "debian-bookworm", "to": "debian-bookworm@2", "kept_as": "auto-3", "shadowed_count": 1,
    ///  "shadowed": [{"path": "/etc/motd", "kind": "own"}]}
    /// ```
    public struct BaseUpgrade: Codable, Sendable, Hashable {
        /// The version so far.
        public var from: String
        /// The version from now on; the same as `from` if there was nothing to do.
        public var to: String
        /// The automatic checkpoint of the state before; nil if nothing was changed.
        public var keptAs: String?
        /// How many files of the new version the sprite does not see, having its own or having deleted them.
        public var shadowedCount = 0
        /// The first thousand of them, in path order.
        public var shadowed: [ShadowedFile] = []

        /// A move from one version to another.
        public init(from: String, to: String) {
            self.from = from
            self.to = to
        }

        private enum CodingKeys: String, CodingKey {
            case from, to, shadowed
            case keptAs = "kept_as"
            case shadowedCount = "shadowed_count"
        }
    }

    /// A file that differs between the two versions and that the sprite does not get.
    public struct ShadowedFile: Codable, Sendable, Hashable {
        /// Its path in the sprite.
        public var path: String
        /// `own` (the sprite has its own), `deleted`, or `directory` (the sprite made the whole directory anew).
        public var kind: String

        /// A file with the reason.
        public init(path: String, kind: String) {
            self.path = path
            self.kind = kind
        }
    }
}
