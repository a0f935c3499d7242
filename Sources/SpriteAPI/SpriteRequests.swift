// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// The body of `POST /v1/sprites`; only the name is required.
    public struct CreateSprite: Codable, Sendable, CustomStringConvertible {
        /// A DNS label of at most 63 characters.
        public var name: String
        /// Limits; absent means none.
        public var configuration: Configuration?
        /// Variables that every command of the sprite gets.
        public var environment: [String: String]?
        /// Who may reach the sprite's URL.
        public var urlSettings: URLSettings?
        /// Words of the user's own.
        public var labels: [String]?
        /// The base image (an addition of this server); nil means the default one.
        public var base: String?
        /// The layer of language runtimes (an addition of this server): `none`, `NAME` or `NAME@VERSION`; nil means
        /// what the operator chose.
        public var runtimes: String?

        /// A request for a sprite of this name.
        public init(name: String) { self.name = name }

        /// Names the sprite; never the environment, which may hold secrets.
        public var description: String { "create \(name)" }

        private enum CodingKeys: String, CodingKey {
            case name, environment, labels, base, runtimes
            case configuration = "config"
            case urlSettings = "url_settings"
        }
    }

    /// The body of `PUT /v1/sprites/{name}`; what is absent stays as it is.
    public struct UpdateSprite: Codable, Sendable {
        /// Replaces the labels.
        public var labels: [String]?
        /// Empties the labels: some clients cannot send an empty list.
        public var clearLabels: Bool?
        /// Who may reach the sprite's URL.
        public var urlSettings: URLSettings?
        /// New limits (an addition of this server); zero takes one away, an absent one stays.
        public var configuration: Configuration?

        /// A request that changes nothing yet.
        public init() {}

        private enum CodingKeys: String, CodingKey {
            case labels
            case clearLabels = "clear_labels"
            case urlSettings = "url_settings"
            case configuration = "config"
        }
    }

    /// The body of `POST /v1/sprites/{name}/upgrade`; may be absent.
    public struct UpgradeSprite: Codable, Sendable {
        /// The runtimes from the next start on (an addition of this server): `none`, `NAME` or `NAME@VERSION`; nil
        /// means the version in use of those that the sprite has.
        public var runtimes: String?

        /// A request for an upgrade.
        public init(runtimes: String? = nil) { self.runtimes = runtimes }
    }

    /// The answer to `POST /v1/sprites/{name}/restart`.
    public struct SpriteRestart: Codable, Sendable {
        /// The sprite's name.
        public var spriteName: String
        /// What runs it: the sprite's id, here.
        public var machineID: String
        /// A sentence for people.
        public var message: String

        /// An answer that says what was done.
        public init(spriteName: String, machineID: String, message: String) {
            self.spriteName = spriteName
            self.machineID = machineID
            self.message = message
        }

        private enum CodingKeys: String, CodingKey {
            case spriteName = "sprite_name"
            case machineID = "machine_id"
            case message
        }
    }

    /// The answer to `GET /v1/sprites/{name}/check`.
    public struct SpriteCheck: Codable, Sendable {
        /// The sprite's name.
        public var spriteName: String
        /// The sprite's id.
        public var spriteID: String
        /// `running`, `warm` or `cold`.
        public var status: String
        /// Why it is in that state, for people.
        public var reason: String?
        /// RFC 3339.
        public var checkedAt: String
        /// How long the look took, such as `35µs`.
        public var elapsed: String?

        /// What was found.
        public init(spriteName: String, spriteID: String, status: String, checkedAt: String) {
            self.spriteName = spriteName
            self.spriteID = spriteID
            self.status = status
            self.checkedAt = checkedAt
        }

        private enum CodingKeys: String, CodingKey {
            case spriteName = "sprite_name"
            case spriteID = "sprite_id"
            case status, reason
            case checkedAt = "checked_at"
            case elapsed
        }
    }

    /// The body of `POST /v1/sprites/{name}/fork` (an addition of this server).
    public struct ForkSprite: Codable, Sendable {
        /// The new sprite's name.
        public var name: String
        /// The checkpoint to begin with; nil means the state of now.
        public var checkpoint: String?
        /// Leaves machine-id, host keys and stale files as they are (an addition of this server).
        public var keepIdentity: Bool?

        /// A request for a fork.
        public init(name: String, checkpoint: String? = nil) {
            self.name = name
            self.checkpoint = checkpoint
        }

        private enum CodingKeys: String, CodingKey {
            case name, checkpoint
            case keepIdentity = "keep_identity"
        }
    }

    /// The body of `POST /v1/sprites/{name}/checkpoint`; may be absent.
    public struct CreateCheckpoint: Codable, Sendable {
        /// What the checkpoint is for.
        public var comment: String?

        /// A request for a checkpoint.
        public init(comment: String? = nil) { self.comment = comment }
    }

    /// The body of every answer that is an error.
    ///
    /// ```json
    /// {"error": "not_found", "message": "there is no sprite named 'demo'"}
    /// ```
    public struct ErrorBody: Codable, Sendable, Hashable {
        /// A stable code for programs.
        public var error: String
        /// A sentence for people.
        public var message: String
        /// When to try again; only with status 429.
        public var retryAfterSeconds: Int?
        /// How many are allowed in a window; only with status 429.
        public var limit: Int?
        /// The window's length; only with status 429.
        public var windowSeconds: Int?
        /// How many were counted; only with status 429.
        public var currentCount: Int?

        /// An error with its code and sentence.
        public init(error: String, message: String) {
            self.error = error
            self.message = message
        }

        /// Reads an error; a missing message is an empty one.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            error = object.tolerant("error") ?? ""
            message = object.tolerant("message") ?? ""
            retryAfterSeconds = object.tolerant("retry_after_seconds")
            limit = object.tolerant("limit")
            windowSeconds = object.tolerant("window_seconds")
            currentCount = object.tolerant("current_count")
        }

        /// Writes what is set.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encode(error, forKey: TextKey("error"))
            try object.encode(message, forKey: TextKey("message"))
            try object.encodeIfPresent(retryAfterSeconds, forKey: TextKey("retry_after_seconds"))
            try object.encodeIfPresent(limit, forKey: TextKey("limit"))
            try object.encodeIfPresent(windowSeconds, forKey: TextKey("window_seconds"))
            try object.encodeIfPresent(currentCount, forKey: TextKey("current_count"))
        }
    }
}
