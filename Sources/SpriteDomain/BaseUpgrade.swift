// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A file of the base that a sprite does not see, since it has its own in that place, or deleted it.
package struct ShadowedFile: Sendable, Hashable {
    package enum Kind: String, Sendable, Hashable {
        /// The sprite has its own.
        case own
        /// The sprite deleted it.
        case deleted
        /// A directory that the sprite has made anew, so that nothing of the base's shows in it.
        case directory
    }
    package var path: String
    package var kind: Kind
    package init(path: String, kind: Kind) {
        self.path = path
        self.kind = kind
    }
}

/// What a sprite would not see of another version of its base.
package struct ShadowReport: Sendable, Hashable {
    /// Only what the two versions have different, in path order; at most ``Limits/shadowedFilesMax``.
    package var files: [ShadowedFile]
    /// How many there are, the unlisted included.
    package var count: Int
    package init(files: [ShadowedFile] = [], count: Int = 0) {
        self.files = files
        self.count = count
    }
}

/// A sprite's move to another version of its base.
package struct BaseUpgrade: Sendable, Hashable {
    package var from: BaseName
    package var to: BaseName
    package var shadowed: ShadowReport
    /// The state before, with its base; nil if nothing was changed.
    package var kept: CheckpointID?
    package init(from: BaseName, to: BaseName, shadowed: ShadowReport = ShadowReport(), kept: CheckpointID? = nil) {
        self.from = from
        self.to = to
        self.shadowed = shadowed
        self.kept = kept
    }
}
