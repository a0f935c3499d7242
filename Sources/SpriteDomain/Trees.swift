// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What a name in a sprite's disk is.
package enum TreeEntryKind: String, Sendable, Hashable {
    case file, directory, symlink, fifo, socket
    case characterDevice = "character_device"
    case blockDevice = "block_device"
}

/// What is known of one name, as the sprite sees it.
package struct TreeEntry: Sendable, Hashable {
    package var kind: TreeEntryKind
    /// The twelve bits of chmod(2).
    package var mode: UInt32
    /// Numbers inside the sprite; 65534 for an owner it has no number for.
    package var user: UInt32
    package var group: UInt32
    package var size: UInt64
    package init(kind: TreeEntryKind, mode: UInt32, user: UInt32, group: UInt32, size: UInt64) {
        self.kind = kind
        self.mode = mode
        self.user = user
        self.group = group
        self.size = size
    }
}

/// One difference between two states of a disk.
package struct TreeChange: Sendable, Hashable {
    package enum Kind: String, Sendable, Hashable { case added, removed, changed, renamed }
    /// What of an entry differs.
    package enum Field: String, Sendable, Hashable { case type, content, target, device, mode, owner, attributes }

    package var kind: Kind
    /// Absolute inside the sprite, bytes as they are on the disk. Of something removed: where it was.
    package var path: [UInt8]
    /// Where something renamed was before. What lies in a renamed directory is not named again.
    package var previousPath: [UInt8]?
    package var fields: [Field]
    package var before: TreeEntry?
    package var after: TreeEntry?
    /// A unified diff; nil where none was asked for or none can be made.
    package var patch: String?
    /// Why there is no patch of a file whose content differs: `binary` or `too_large`.
    package var patchOmitted: String?

    package init(
        _ kind: Kind, _ path: [UInt8], previousPath: [UInt8]? = nil, fields: [Field] = [], before: TreeEntry? = nil,
        after: TreeEntry? = nil
    ) {
        self.kind = kind
        self.path = path
        self.previousPath = previousPath
        self.fields = fields
        self.before = before
        self.after = after
    }
}

/// One of a sprite's states.
package enum StateReference: Sendable, Hashable, CustomStringConvertible {
    case live
    case checkpoint(CheckpointID)

    package var description: String {
        switch self {
        case .live: "current"
        case .checkpoint(let id): id.rawValue
        }
    }
}

package struct TreeDiffOptions: Sendable, Hashable {
    /// Absolute; only what is there or below it.
    package var path: [UInt8]?
    package var makesPatches = false
    /// False: a renamed entry is one removed and one added.
    package var findsRenames = true
    package init(path: [UInt8]? = nil, makesPatches: Bool = false, findsRenames: Bool = true) {
        self.path = path
        self.makesPatches = makesPatches
        self.findsRenames = findsRenames
    }
}

/// What a fork was given of its own, so that it is not mistaken for the sprite it comes from.
package struct IdentityReport: Sendable, Hashable {
    /// Paths that were written anew, such as /etc/machine-id.
    package var renewed: [String] = []
    /// Paths of stale files that were removed.
    package var removed: [String] = []
    /// Whether host keys of the ssh server were removed, so that new ones have to be made.
    package var needsHostKeys = false
    package init() {}
}

/// What became of a part of the disk that was brought back.
package struct RestoredPath: Sendable, Hashable {
    package var files: Int
    package var bytes: UInt64
    /// Bytes that had to be copied, because their blocks could not be shared.
    package var copiedBytes: UInt64
    package init(files: Int, bytes: UInt64, copiedBytes: UInt64) {
        self.files = files
        self.bytes = bytes
        self.copiedBytes = copiedBytes
    }
}

/// Looks into the states of sprites' disks, and moves parts of them. What lies in there is hostile.
///
/// `layer` is where the layer of language runtimes is mounted that lies between base and disk; nil without one.
package protocol TreeStorageDriver: Sendable {
    /// What differs between two states of one sprite, sorted by path; found from btrfs, not by walking the disks.
    ///
    /// Throws `.tooLarge` beyond ``Limits/diffEntriesMax`` differences; stops soon when the task is cancelled.
    func changes(
        base: BaseName, layer: String?, from: DiskSource, to: DiskSource, options: TreeDiffOptions
    ) async throws -> [TreeChange]
    /// Whether anything was written to the live disk since a checkpoint of it was made.
    func hasChanged(_ sprite: SpriteID, since checkpoint: CheckpointID) async throws -> Bool
    /// Keeps the state of another sprite as a checkpoint of this one.
    func adoptState(_ source: DiskSource, by sprite: SpriteID, as checkpoint: CheckpointID) async throws
    /// Brings a file or directory of a checkpoint back into a sprite that runs, in one step as seen from inside.
    ///
    /// Nothing stops. What was there before is gone from its place and deleted. No symbolic link is followed.
    /// - Parameters:
    ///   - processID: PID 1 of the sprite; its root is where it sees its disk.
    ///   - removesAbsent: What the checkpoint does not have is removed; otherwise it is `.notFound`.
    func restorePath(
        _ path: [UInt8], of sprite: SpriteID, base: BaseName, layer: String?, from checkpoint: CheckpointID,
        processID: Int32,
        removesAbsent: Bool
    ) async throws -> RestoredPath
    /// Removes what a ``restorePath(_:of:base:layer:from:processID:removesAbsent:)`` left that a crash interrupted.
    func cleanRestoredPaths(_ sprite: SpriteID, processID: Int32?) async throws
    /// Gives a disk that nobody uses yet an identity of its own.
    func renewIdentity(_ sprite: SpriteID, base: BaseName, layer: String?) async throws -> IdentityReport
}
