// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A secret that a sprite's requests to one host carry; its value is never told.
    ///
    /// `{"id": "openai", "host": "api.openai.com", "header": "authorization", "format": "Bearer {}", …}`
    public struct Secret: Codable, Sendable, Hashable {
        /// Chosen by whoever set it.
        public var id: String
        /// The one host that gets it.
        public var host: String
        /// The header that carries it.
        public var header: String
        /// What the header says, with `{}` in the place of the value.
        public var format: String
        /// RFC 3339.
        public var createdAt: String
        /// RFC 3339, to the minute; absent if it was not used yet.
        public var lastUsedAt: String?

        /// A secret with all its fields.
        public init(
            id: String, host: String, header: String, format: String, createdAt: String, lastUsedAt: String?
        ) {
            self.id = id
            self.host = host
            self.header = header
            self.format = format
            self.createdAt = createdAt
            self.lastUsedAt = lastUsedAt
        }

        private enum CodingKeys: String, CodingKey {
            case id, host, header, format
            case createdAt = "created_at"
            case lastUsedAt = "last_used_at"
        }
    }

    /// The answer to a list of secrets.
    public struct SecretList: Codable, Sendable, Hashable {
        /// By their ids.
        public var secrets: [Secret]

        /// A list.
        public init(secrets: [Secret]) { self.secrets = secrets }
    }

    /// Sets a secret: `{"host": "api.openai.com", "value": "sk-…"}`.
    public struct SetSecret: Codable, Sendable, Hashable {
        /// An exact host name.
        public var host: String
        /// What nobody inside can read.
        public var value: String
        /// Absent for `authorization`.
        public var header: String?
        /// What the header says, with `{}` in the place of the value; absent for `Bearer {}` in `authorization` and for
        /// the value alone in another header.
        public var format: String?

        /// A secret for a host.
        public init(host: String, value: String, header: String? = nil, format: String? = nil) {
            self.host = host
            self.value = value
            self.header = header
            self.format = format
        }

        /// Refuses keys that are not known, so that a misspelt one does not go unnoticed.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            try refuseUnknown(object, ["host", "value", "header", "format"])
            host = try object.decode(String.self, forKey: TextKey("host"))
            value = try object.decode(String.self, forKey: TextKey("value"))
            header = try object.value("header")
            format = try object.value("format")
        }
    }
}
