// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// What a sprite's disk takes in the pool (an addition of this server), in bytes.
    ///
    /// ```json
    /// {"limit_bytes": 10737418240, "counted_bytes": 52428800, "own_bytes": 50331648, "shared_bytes": 4096,
    ///  "live": {"bytes": 41943040, "own_bytes": 8388608},
    ///  "checkpoints": [{"id": "v1", "bytes": 33554432, "own_bytes": 8388608}]}
    /// ```
    public struct DiskUse: Codable, Sendable, Hashable {
        /// A state of the disk.
        public struct State: Codable, Sendable, Hashable {
            /// The checkpoint; nil for the live disk.
            public var id: String?
            /// All contents that it refers to.
            public var bytes: UInt64
            /// What nothing else refers to: that much comes back with its deletion.
            public var ownBytes: UInt64

            /// A state.
            public init(id: String? = nil, bytes: UInt64, ownBytes: UInt64) {
                self.id = id
                self.bytes = bytes
                self.ownBytes = ownBytes
            }

            private enum CodingKeys: String, CodingKey {
                case id, bytes
                case ownBytes = "own_bytes"
            }
        }

        /// The limit; nil if there is none.
        public var limitBytes: UInt64?
        /// What counts against it; nil where the pool has no limits at all.
        public var countedBytes: UInt64?
        /// What only this sprite's states refer to.
        public var ownBytes: UInt64
        /// What its base or other sprites refer to as well.
        public var sharedBytes: UInt64
        /// The disk in use.
        public var live: State
        /// Its checkpoints, by their names.
        public var checkpoints: [State]

        /// A report of a disk without a limit.
        public init(ownBytes: UInt64, sharedBytes: UInt64, live: State, checkpoints: [State]) {
            self.ownBytes = ownBytes
            self.sharedBytes = sharedBytes
            self.live = live
            self.checkpoints = checkpoints
        }

        private enum CodingKeys: String, CodingKey {
            case live, checkpoints
            case limitBytes = "limit_bytes"
            case countedBytes = "counted_bytes"
            case ownBytes = "own_bytes"
            case sharedBytes = "shared_bytes"
        }
    }
}
