// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

extension Machine {
    /// Makes a checkpoint of the live disk; the caller holds the turn.
    func makeCheckpoint(comment: String?) async throws -> Checkpoint {
        try checkExists()
        let checkpointID = CheckpointID.version(sprite.nextVersion)
        let intent = Intent.checkpoint(id, checkpointID)
        try await drivers.journal.span("registry.begin", sprite: id) { try await drivers.registry.begin(intent) }
        FaultPoint.checkpointBegun.reached()
        advanceVersion()
        let times: (flush: Duration, snapshot: Duration)
        do {
            times = try await held { [drivers, id] in
                try await drivers.journal.span("storage.snapshot", sprite: id) {
                    try await drivers.storage.snapshot(id, as: checkpointID)
                }
                FaultPoint.checkpointTaken.reached()
            }
        } catch {
            await undoCheckpoint(intent, checkpointID)
            note(
                "checkpoint.failed", kind: .checkpoint, level: .error,
                "checkpoint \(checkpointID) failed: \(SpriteError.sentence(error))")
            throw error
        }
        let checkpoint = Checkpoint(
            sprite: id, id: checkpointID, createdAt: .now(), comment: comment, source: sprite.source,
            flush: times.flush, snapshot: times.snapshot)
        var sprite = sprite
        sprite.source = checkpointID
        do {
            try await drivers.journal.span("registry.complete", sprite: id) {
                try await drivers.registry.complete(intent, .written(sprite, checkpoint))
            }
            FaultPoint.checkpointCompleted.reached()
        } catch {
            await undoCheckpoint(intent, checkpointID)
            throw error
        }
        // The record belongs to the state before it.
        note(
            "checkpoint.created", kind: .checkpoint, "checkpoint \(checkpointID)" + (comment.map { ": \($0)" } ?? ""),
            fields: [
                ("checkpoint", .text(checkpointID.rawValue)), ("flush_ms", .milliseconds(times.flush)),
                ("snapshot_ms", .milliseconds(times.snapshot)),
            ])
        setSprite(sprite)
        record(checkpoint)
        arrangeShelfSoon()
        return checkpoint
    }

    private func undoCheckpoint(_ intent: Intent, _ checkpointID: CheckpointID) async {
        await Task { [drivers, id, logger] in
            do {
                try await drivers.storage.deleteSnapshot(id, checkpointID)
                try await drivers.registry.abandon(intent)
            } catch {
                // The intent stays: the next start cleans up.
                logger.error("failed checkpoint not cleaned up", metadata: ["error": "\(error)"])
            }
        }.value
    }

    private func advanceVersion() {
        var next = sprite
        next.nextVersion += 1
        setSprite(next)
    }

    /// Writes out what is dirty while the sprite goes on, then runs `body` with every process held still.
    ///
    /// Btrfs writes dirty files out one after another before it snapshots, so that without holding the sprite
    /// still a snapshot could hold a later write of one file and miss an earlier one of another.
    func held(_ body: @Sendable () async throws -> Void) async throws -> (flush: Duration, snapshot: Duration) {
        let clock = ContinuousClock()
        let begin = clock.now
        try await drivers.journal.span("storage.flush", sprite: id) { try await drivers.storage.flush(id) }
        let flushed = clock.now
        FaultPoint.checkpointFlushed.reached()
        if sandbox != nil, !isFrozen {
            try await drivers.journal.span("sandbox.freeze", sprite: id) { try await drivers.sandboxes.freeze(id) }
            FaultPoint.checkpointFrozen.reached()
            do {
                try await body()
            } catch {
                await thawForSure()
                throw error
            }
            await thawForSure()
            FaultPoint.checkpointThawed.reached()
        } else {
            try await body()
        }
        return (flushed - begin, clock.now - flushed)
    }

    private func thawForSure() async {
        do {
            try await drivers.journal.span("sandbox.thaw", sprite: id) { try await drivers.sandboxes.thaw(id) }
        } catch {
            logger.error("sprite stays frozen", metadata: ["error": "\(error)"])
        }
    }

    func removeCheckpoint(_ checkpointID: CheckpointID) async throws {
        try checkExists()
        _ = try checkpoint(checkpointID)
        guard checkpointID != .initial else {
            throw SpriteError(.conflict, "cannot delete checkpoint v0: it is the state at creation and costs nothing")
        }
        guard checkpointID != sprite.source else {
            throw SpriteError(
                .conflict,
                "cannot delete checkpoint \(checkpointID): the live state descends from it; "
                    + "make or restore another checkpoint first")
        }
        await takeOffShelf(checkpointID)
        let intent = Intent.deleteCheckpoint(id, checkpointID)
        try await drivers.registry.begin(intent)
        FaultPoint.checkpointDeletionBegun.reached()
        try await drivers.storage.deleteSnapshot(id, checkpointID)
        FaultPoint.checkpointDeletionDone.reached()
        try await drivers.registry.complete(intent, .removed)
        FaultPoint.checkpointDeletionCompleted.reached()
        forget(checkpointID)
        note(
            "checkpoint.deleted", kind: .checkpoint, "checkpoint \(checkpointID) deleted",
            fields: [("checkpoint", .text(checkpointID.rawValue))])
        arrangeShelfSoon()
    }

    /// Exchanges the disk; returns the automatic checkpoint that keeps the replaced state. The caller holds the turn.
    func replaceDisk(with target: CheckpointID) async throws -> CheckpointID {
        try checkExists()
        _ = try checkpoint(target)
        let replaced = CheckpointID.automatic(sprite.nextAutomatic)
        let intent = Intent.restore(id, from: target, replaced: replaced)
        try await drivers.registry.begin(intent)
        FaultPoint.restoreBegun.reached()
        var next = sprite
        next.nextAutomatic += 1
        setSprite(next)
        try await stop()
        FaultPoint.restoreStopped.reached()
        try await drivers.journal.span("storage.restore", sprite: id) {
            try await drivers.storage.restore(id, from: diskSource(of: target), keepingReplacedAs: replaced)
        }
        let kept = keptState(replaced, of: sprite, for: target)
        next.source = target
        try await drivers.registry.complete(intent, .written(next, kept))
        FaultPoint.restoreCompleted.reached()
        setSprite(next)
        record(kept)
        note(
            "sprite.restored", kind: .checkpoint, "restored to \(target); what was replaced is \(replaced)",
            fields: [("checkpoint", .text(target.rawValue)), ("replaced", .text(replaced.rawValue))])
        return replaced
    }

    /// `v0` of a sprite made from a base has no snapshot of its own; the pool knows where it lies.
    private func diskSource(of checkpoint: CheckpointID) -> DiskSource { .checkpoint(id, checkpoint) }

    /// Keeps the newest automatic checkpoints only; failures are logged and tried again after the next restore.
    func thinAutomaticCheckpoints() async {
        let automatic = checkpoints.filter { $0.id.isAutomatic && $0.id != sprite.source }
        for old in automatic.dropLast(Limits.automaticCheckpointsMax) {
            do {
                try await removeCheckpoint(old.id)
            } catch {
                logger.warning("old automatic checkpoint not removed", metadata: ["error": "\(error)"])
            }
        }
    }

    var newestAutomatic: CheckpointID? { checkpoints.last { $0.id.isAutomatic }?.id }
}

/// The row of a state that a restore replaced.
func keptState(_ replaced: CheckpointID, of sprite: Sprite, for target: CheckpointID) -> Checkpoint {
    Checkpoint(
        sprite: sprite.id, id: replaced, createdAt: .now(), comment: "replaced by restoring \(target)",
        source: sprite.source)
}
