// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import NIOCore

/// What differs between two states of a sprite.
package struct TreeDiff: Sendable {
    package var from: StateReference
    package var to: StateReference
    /// Sorted by path, directories before what lies in them.
    package var changes: [TreeChange]
    package init(from: StateReference, to: StateReference, changes: [TreeChange]) {
        self.from = from
        self.to = to
        self.changes = changes
    }
}

/// When checkpoints are made without anybody asking. Nothing is made while nothing has changed.
package struct CheckpointPolicy: Sendable, Hashable {
    package var isBeforeExec = false
    /// Between two of them, as long as somebody uses the sprite; nil means none.
    package var interval: Duration?
    package init(isBeforeExec: Bool = false, interval: Duration? = nil) {
        self.isBeforeExec = isBeforeExec
        self.interval = interval
    }
    package var isOff: Bool { !isBeforeExec && interval == nil }
}

/// A command to run such that it can be undone.
package struct AttemptRequest: Sendable {
    package var command: ExecRequest
    /// Runs after a command that succeeded, and decides.
    package var check: ExecRequest?
    /// In a fork that is dropped afterwards.
    package var isDryRun = false
    /// For the command, and again for the check.
    package var timeout = Limits.attemptTimeout
    package init(command: ExecRequest, check: ExecRequest? = nil) {
        self.command = command
        self.check = check
    }
}

package enum AttemptEvent: Sendable {
    case note(String)
    case output(OutputStream, ByteBuffer)
    case commandEnded(ExitStatus)
    case checkEnded(ExitStatus)
    /// What was changed, before it is kept or rolled back.
    case diff(TreeDiff)
}

package struct AttemptOutcome: Sendable, Hashable {
    package enum Result: String, Sendable, Hashable {
        case kept
        case rolledBack = "rolled_back"
        case dropped
    }
    package var result: Result
    package var exit: ExitStatus
    package var check: ExitStatus?
    /// Keeps the state before; nil for a dry run.
    package var before: CheckpointID?
    /// Keeps the state that was rolled back.
    package var replaced: CheckpointID?
    package init(result: Result, exit: ExitStatus, check: ExitStatus? = nil) {
        self.result = result
        self.exit = exit
        self.check = check
    }

    package var isSuccess: Bool { exit == .exited(0) && (check ?? .exited(0)) == .exited(0) }
}

/// One command in several forks of one state; each finds its number, from 1, in `SPRITE_RACE_INDEX`.
package struct RaceRequest: Sendable {
    package var command: ExecRequest
    package var count: Int
    /// Prints a number as its last line; without it the first to succeed is the best.
    package var score: ExecRequest?
    package var isLowestBest = false
    /// Nil means the state of now.
    package var checkpoint: CheckpointID?
    package var promotes = false
    package var timeout = Limits.attemptTimeout
    package init(command: ExecRequest, count: Int) {
        self.command = command
        self.count = count
    }
}

/// How one fork of a race did.
package struct Racer: Sendable {
    package var index: Int
    package var exit: ExitStatus?
    package var elapsed: Duration = .zero
    /// Nil if there is none: then it cannot win, unless no score was asked for.
    package var score: Double?
    /// Why it cannot win.
    package var problem: String?
    /// The end of what it printed.
    package var output = ByteBuffer()
    package var diff: TreeDiff?
    package init(index: Int) { self.index = index }
}

package enum RaceEvent: Sendable {
    case note(String)
    /// A racer has come in; in the order they do.
    case finished(Racer)
}

package struct RaceOutcome: Sendable {
    /// Best first.
    package var ranking: [Racer]
    /// What the forks were made of.
    package var source: CheckpointID
    /// With a promotion: the state that is live now, and the one it replaced.
    package var promoted: CheckpointID?
    package var replaced: CheckpointID?
    package init(ranking: [Racer], source: CheckpointID) {
        self.ranking = ranking
        self.source = source
    }
}

/// Finds the first bad checkpoint, with the conventions of `git bisect run`.
package struct BisectRequest: Sendable {
    package var command: ExecRequest
    package var good: CheckpointID
    package var bad: CheckpointID
    package var includesAutomatic = false
    package var timeout = Limits.attemptTimeout
    package init(command: ExecRequest, good: CheckpointID, bad: CheckpointID) {
        self.command = command
        self.good = good
        self.bad = bad
    }
}

package enum BisectVerdict: String, Sendable, Hashable { case good, bad, skipped }

package enum BisectEvent: Sendable {
    case note(String)
    case output(OutputStream, ByteBuffer)
    case tested(CheckpointID, BisectVerdict, ExitStatus, left: Int)
}

package struct BisectOutcome: Sendable, Hashable {
    /// More than one if those before the last could not be tested.
    package var firstBad: [CheckpointID]
    package var lastGood: CheckpointID
    package var tests: Int
    package init(firstBad: [CheckpointID], lastGood: CheckpointID, tests: Int) {
        self.firstBad = firstBad
        self.lastGood = lastGood
        self.tests = tests
    }
}

/// What can be asked of the states of a sprite, beyond making and restoring them.
///
/// Every call throws ``SpriteError``; a sprite or checkpoint that is not there is `.notFound`. Whoever calls one that
/// reports events ends it by cancelling, or by throwing from the report; what it had begun is undone.
package protocol StateControl: Sendable {
    /// What the disk and each of its states take. Reads the structure of all of them: some 100 ms for 100,000 files.
    func diskUse(_ name: SpriteName) async throws -> DiskUse
    /// Throws `.tooLarge` beyond ``Limits/diffEntriesMax`` differences, `.limitReached` while too many others compare.
    func diff(
        _ name: SpriteName, from: StateReference, to: StateReference, options: TreeDiffOptions
    ) async throws -> TreeDiff
    /// Brings one path back, in one step and while everything goes on; the state before is kept.
    ///
    /// - Parameter path: Absolute, without `.`, `..` and empty parts.
    func restorePath(
        _ name: SpriteName, _ id: CheckpointID, path: String
    ) async throws -> (restored: RestoredPath, replaced: CheckpointID)
    /// A pinned checkpoint is removed neither by age nor for space, nor by asking before it is unpinned.
    func pin(_ name: SpriteName, _ id: CheckpointID, _ isPinned: Bool) async throws -> Checkpoint
    /// A fork that is told what of its identity is new.
    ///
    /// - Parameter keepsIdentity: Leaves machine-id, host keys and stale files as they are.
    func fork(
        _ source: SpriteName, to name: SpriteName, checkpoint: CheckpointID?, keepsIdentity: Bool
    ) async throws -> (view: SpriteView, identity: IdentityReport)
    /// Throws `.conflict` while another try of the sprite is under way.
    func attempt(
        _ name: SpriteName, _ request: AttemptRequest,
        onEvent: @escaping @Sendable (AttemptEvent) async throws -> Void
    ) async throws -> AttemptOutcome
    func race(
        _ name: SpriteName, _ request: RaceRequest, onEvent: @escaping @Sendable (RaceEvent) async throws -> Void
    ) async throws -> RaceOutcome
    /// Throws `.conflict` if the command ends with 128 or more, which breaks off, or if nothing could be tested.
    func bisect(
        _ name: SpriteName, _ request: BisectRequest, onEvent: @escaping @Sendable (BisectEvent) async throws -> Void
    ) async throws -> BisectOutcome
}
