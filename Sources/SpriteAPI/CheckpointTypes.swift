// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A checkpoint of a sprite's disk.
    ///
    /// ```json
    /// {"id": "v3", "create_time": "2026-02-03T04:05:07Z", "comment": "works", "source_id": "v2", "is_auto": false,
    ///  "flush_ms": 1.2, "snapshot_ms": 5.2}
    /// ```
    public struct Checkpoint: Codable, Sendable, Hashable {
        /// `v0`, `v1`, …, or `auto-N` for automatic ones.
        public var id: String
        /// RFC 3339.
        public var createTime: String
        /// What it is for.
        public var comment: String?
        /// The checkpoint it descends from.
        public var sourceID: String?
        /// Everything it descends from, nearest first; only in the answer for one checkpoint.
        public var history: [String]?
        /// Made by the system, for example to keep the state that a restore replaced.
        public var isAutomatic: Bool?
        /// Why it was made: `requested`, `replaced`, `replaced_path`, `policy`, `try` or `promoted` (an addition).
        public var reason: String?
        /// Whether nothing removes it without being told to (an addition of this server).
        public var isPinned: Bool?
        /// With `replaced_path`: what was brought back (an addition of this server).
        public var path: String?
        /// Milliseconds of writing out dirty data, while the sprite went on (an addition of this server).
        public var flushMilliseconds: Double?
        /// Milliseconds of the snapshot itself (an addition of this server).
        public var snapshotMilliseconds: Double?

        /// A checkpoint with the fields that are always there.
        public init(id: String, createTime: String) {
            self.id = id
            self.createTime = createTime
        }

        private enum CodingKeys: String, CodingKey {
            case id, comment, history, reason, path
            case isPinned = "pinned"
            case createTime = "create_time"
            case sourceID = "source_id"
            case isAutomatic = "is_auto"
            case flushMilliseconds = "flush_ms"
            case snapshotMilliseconds = "snapshot_ms"
        }
    }

    /// One line of the NDJSON streams of checkpoints and restores.
    ///
    /// ```json
    /// {"type": "complete", "data": "Checkpoint v3 created", "time": "2026-02-03T04:05:07Z", "checkpoint_id": "v3",
    ///  "flush_ms": 1.2, "snapshot_ms": 5.2}
    /// ```
    public struct StreamEvent: Codable, Sendable, Hashable {
        /// `info`, `stdout`, `stderr`, `warning`, `error` or `complete`; the last event is one of the two last.
        public var type: String
        /// For people.
        public var data: String?
        /// The sentence of an error.
        public var error: String?
        /// The code of an error (an addition of this server).
        public var code: String?
        /// RFC 3339.
        public var time: String?
        /// With `complete`: the checkpoint that was made or restored (an addition of this server).
        public var checkpointID: String?
        /// With `complete` of a restore: the automatic checkpoint that keeps the replaced state (an addition).
        public var replacedID: String?
        /// Milliseconds of writing out dirty data (an addition of this server).
        public var flushMilliseconds: Double?
        /// Milliseconds of the snapshot (an addition of this server).
        public var snapshotMilliseconds: Double?

        /// An event with a text.
        public init(type: String, data: String? = nil, time: String? = nil) {
            self.type = type
            self.data = data
            self.time = time
        }

        private enum CodingKeys: String, CodingKey {
            case type, data, error, code, time
            case checkpointID = "checkpoint_id"
            case replacedID = "replaced_id"
            case flushMilliseconds = "flush_ms"
            case snapshotMilliseconds = "snapshot_ms"
        }
    }
}
