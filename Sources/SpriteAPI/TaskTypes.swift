// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// What holds a sprite awake although nobody is connected to it.
    ///
    /// `{"name": "agent", "started_at": "2026-02-03T04:05:06Z", "expires_at": "2026-02-03T04:35:06Z"}`
    public struct Task: Codable, Sendable, Hashable {
        /// Chosen by whoever made it.
        public var name: String
        /// RFC 3339.
        public var startedAt: String
        /// RFC 3339; prolonged by another PUT.
        public var expiresAt: String

        /// A task with all its fields.
        public init(name: String, startedAt: String, expiresAt: String) {
            self.name = name
            self.startedAt = startedAt
            self.expiresAt = expiresAt
        }

        private enum CodingKeys: String, CodingKey {
            case name
            case startedAt = "started_at"
            case expiresAt = "expires_at"
        }
    }

    /// The answer to a list of tasks.
    public struct TaskList: Codable, Sendable, Hashable {
        /// Oldest first.
        public var tasks: [Task]

        /// A list.
        public init(tasks: [Task]) { self.tasks = tasks }
    }

    /// Begins or prolongs a task: `{"name": "agent", "expire": "30m"}`, or with `"expire": 1800`.
    public struct SetTask: Codable, Sendable, Hashable {
        /// Seconds, or a duration in Go's notation.
        public enum Expire: Codable, Sendable, Hashable {
            /// A whole number of seconds.
            case seconds(Int)
            /// Such as `30m`.
            case text(String)

            /// Reads either form.
            public init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                if let seconds = try? container.decode(Int.self) {
                    self = .seconds(seconds)
                } else {
                    self = .text(try container.decode(String.self))
                }
            }

            /// Writes the form it has.
            public func encode(to encoder: any Encoder) throws {
                var container = encoder.singleValueContainer()
                switch self {
                case .seconds(let seconds): try container.encode(seconds)
                case .text(let text): try container.encode(text)
                }
            }
        }

        /// Absent where the path names it.
        public var name: String?
        /// Absent: five minutes.
        public var expire: Expire?

        /// A request with the defaults.
        public init(name: String? = nil, expire: Expire? = nil) {
            self.name = name
            self.expire = expire
        }
    }

    /// The body of a restore from inside: `{"then": "make test"}`.
    public struct RestoreInside: Codable, Sendable, Hashable {
        /// A shell command that runs in the restored sprite.
        public var then: String?

        /// A request without a command.
        public init(then: String? = nil) { self.then = then }
    }
}
