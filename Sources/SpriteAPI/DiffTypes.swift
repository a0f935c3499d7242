// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// What is known of a name in a sprite's disk.
    public struct TreeEntry: Codable, Sendable, Hashable {
        /// `file`, `directory`, `symlink`, `fifo`, `socket`, `character_device` or `block_device`.
        public var type: String
        /// Octal, such as `0644`.
        public var mode: String
        /// The owner's number inside the sprite.
        public var uid: UInt32
        /// The group's number inside the sprite.
        public var gid: UInt32
        /// Bytes, of a file or symbolic link.
        public var size: UInt64

        /// An entry.
        public init(type: String, mode: String, uid: UInt32, gid: UInt32, size: UInt64) {
            self.type = type
            self.mode = mode
            self.uid = uid
            self.gid = gid
            self.size = size
        }
    }

    /// One difference between two states of a disk.
    ///
    /// ```json
    /// {"change": "changed", "path": "/etc/hosts", "fields": ["content", "mode"],
    ///  "old": {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": 80}, "new": {…}}
    /// ```
    public struct TreeChange: Codable, Sendable, Hashable {
        /// `added`, `removed`, `changed` or `renamed`.
        public var change: String
        /// Absolute; bytes that are not UTF-8 are replaced, and `path_base64` has them all.
        public var path: String
        /// The bytes of a path that is not UTF-8.
        public var pathBase64: String?
        /// Where something renamed was before.
        public var fromPath: String?
        /// The bytes of such a path that is not UTF-8.
        public var fromPathBase64: String?
        /// What differs: `type`, `content`, `target`, `device`, `mode`, `owner`, `attributes`.
        public var fields: [String]?
        /// What was there.
        public var old: TreeEntry?
        /// What is there.
        public var new: TreeEntry?
        /// A unified diff, if one was asked for and both contents are text.
        public var patch: String?
        /// Why there is none: `binary` or `too_large`.
        public var patchOmitted: String?

        /// A difference at a path.
        public init(change: String, path: String) {
            self.change = change
            self.path = path
        }

        private enum CodingKeys: String, CodingKey {
            case change, path, fields, old, new, patch
            case pathBase64 = "path_base64"
            case fromPath = "from_path"
            case fromPathBase64 = "from_path_base64"
            case patchOmitted = "patch_omitted"
        }
    }

    /// How much differs.
    public struct DiffStat: Codable, Sendable, Hashable {
        /// Names that are new.
        public var added = 0
        /// Names that are gone.
        public var removed = 0
        /// Names whose content, owner or mode differs.
        public var changed = 0
        /// Names that have moved; what lies in a renamed directory is not counted.
        public var renamed = 0
        /// By how many bytes files grew, less what others shrank.
        public var bytes: Int64 = 0

        /// Nothing.
        public init() {}

        /// All together.
        public var total: Int { added + removed + changed + renamed }
    }

    /// One line of a comparison: a difference, or the end.
    ///
    /// The last line has `type` `complete` with `from`, `to` and `stat`, or `error` with `error` and `code`; all before it
    /// have `type` `change` and the fields of ``TreeChange``.
    public struct DiffLine: Codable, Sendable {
        /// `change`, `complete` or `error`.
        public var type: String
        /// Of a `change`.
        public var change: TreeChange?
        /// Of `complete`: the older state.
        public var from: String?
        /// Of `complete`: the newer state.
        public var to: String?
        /// Of `complete`: all differences, also those beyond a limit.
        public var stat: DiffStat?
        /// Of `complete`: whether a limit left differences out.
        public var truncated: Bool?
        /// Of `complete`: how long it took.
        public var elapsedMilliseconds: Double?
        /// The sentence of an error.
        public var error: String?
        /// Its code.
        public var code: String?

        /// A line of a type.
        public init(type: String) { self.type = type }

        private enum CodingKeys: String, CodingKey {
            case type, from, to, stat, truncated, error, code
            case elapsedMilliseconds = "elapsed_ms"
        }

        /// A change lies beside the type, not below it.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: CodingKeys.self)
            type = try object.decode(String.self, forKey: .type)
            from = try object.decodeIfPresent(String.self, forKey: .from)
            to = try object.decodeIfPresent(String.self, forKey: .to)
            stat = try object.decodeIfPresent(DiffStat.self, forKey: .stat)
            truncated = try object.decodeIfPresent(Bool.self, forKey: .truncated)
            elapsedMilliseconds = try object.decodeIfPresent(Double.self, forKey: .elapsedMilliseconds)
            error = try object.decodeIfPresent(String.self, forKey: .error)
            code = try object.decodeIfPresent(String.self, forKey: .code)
            if type == "change" { change = try TreeChange(from: decoder) }
        }

        /// As it is read.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: CodingKeys.self)
            try object.encode(type, forKey: .type)
            try object.encodeIfPresent(from, forKey: .from)
            try object.encodeIfPresent(to, forKey: .to)
            try object.encodeIfPresent(stat, forKey: .stat)
            try object.encodeIfPresent(truncated, forKey: .truncated)
            try object.encodeIfPresent(elapsedMilliseconds, forKey: .elapsedMilliseconds)
            try object.encodeIfPresent(error, forKey: .error)
            try object.encodeIfPresent(code, forKey: .code)
            try change?.encode(to: encoder)
        }
    }
}
