// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

extension Machine {
    /// Makes a checkpoint of the live disk; the caller holds the turn.
    ///
    /// - Parameters:
    ///   - reason: What nobody asked for is numbered by itself, and the live state does not count as its descendant.
    ///   - path: With ``CheckpointReason/replacedPath``.
    ///   - source: Another sprite's state, held still by the caller; nil means this one's own.
    func makeCheckpoint(
        comment: String?, reason: CheckpointReason = .requested, path: String? = nil, source: DiskSource? = nil
    ) async throws -> Checkpoint {
        try checkExists()
        try await drivers.requireSpace("create a checkpoint of sprite '\(sprite.name)'")
        let isAutomatic = reason != .requested
        let checkpointID =
            isAutomatic ? CheckpointID.automatic(sprite.nextAutomatic) : CheckpointID.version(sprite.nextVersion)
        let intent = Intent.checkpoint(id, checkpointID)
        try await drivers.journal.span("registry.begin", sprite: id) { try await drivers.registry.begin(intent) }
        FaultPoint.checkpointBegun.reached()
        advanceNumber(isAutomatic: isAutomatic)
        let times: (flush: Duration, snapshot: Duration)
        do {
            if let source {
                try await drivers.trees.adoptState(source, by: id, as: checkpointID)
                times = (.zero, .zero)
            } else {
                times = try await held { [drivers, id] in
                    try await drivers.journal.span("storage.snapshot", sprite: id) {
                        try await drivers.storage.snapshot(id, as: checkpointID)
                    }
                    FaultPoint.checkpointTaken.reached()
                }
            }
        } catch {
            await undoCheckpoint(intent, checkpointID)
            note(
                "checkpoint.failed", kind: .checkpoint, level: .error,
                "checkpoint \(checkpointID) failed: \(SpriteError.sentence(error))")
            throw error
        }
        var checkpoint = Checkpoint(
            sprite: id, id: checkpointID, createdAt: .now(), comment: comment, source: sprite.source,
            flush: times.flush, snapshot: times.snapshot, base: sprite.base)
        checkpoint.reason = reason
        checkpoint.path = path
        var sprite = sprite
        if !isAutomatic { sprite.source = checkpointID }
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
        if !isAutomatic { arrangeShelfSoon() }
        return checkpoint
    }

    func undoCheckpoint(_ intent: Intent, _ checkpointID: CheckpointID) async {
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

    private func advanceNumber(isAutomatic: Bool) {
        var next = sprite
        if isAutomatic { next.nextAutomatic += 1 } else { next.nextVersion += 1 }
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
        guard try !checkpoint(checkpointID).isPinned else {
            throw SpriteError(.conflict, "cannot delete checkpoint \(checkpointID): it is pinned; unpin it first")
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
    ///
    /// What is to follow is in the registry from the beginning on, so that it follows whatever becomes of this daemon.
    func replaceDisk(with target: CheckpointID, then followUp: FollowUp?) async throws -> Resumption {
        try checkExists()
        let base = try checkpoint(target).base
        let replaced = CheckpointID.automatic(sprite.nextAutomatic)
        let intent = Intent.restore(id, from: target, replaced: replaced)
        let resumption = Resumption(
            restored: target, replaced: replaced, origin: "\(RequestOrigin.current)", followUp: followUp)
        try await drivers.registry.begin(intent, resuming: resumption)
        FaultPoint.restoreBegun.reached()
        var next = sprite
        next.nextAutomatic += 1
        setSprite(next)
        await readInitLogToItsEnd()
        try await stop()
        FaultPoint.restoreStopped.reached()
        try await drivers.journal.span("storage.restore", sprite: id) {
            try await drivers.storage.restore(id, from: diskSource(of: target), keepingReplacedAs: replaced)
        }
        let kept = keptState(replaced, of: sprite, for: target)
        next.source = target
        next.base = base ?? next.base
        try await drivers.registry.complete(intent, .written(next, kept))
        FaultPoint.restoreCompleted.reached()
        setSprite(next)
        record(kept)
        note(
            "sprite.restored", kind: .checkpoint, "restored to \(target); what was replaced is \(replaced)",
            fields: [
                ("checkpoint", .text(target.rawValue)), ("replaced", .text(replaced.rawValue)),
                ("origin", .text("\(RequestOrigin.current)")),
            ])
        return resumption
    }

    /// `v0` of a sprite made from a base has no snapshot of its own; the pool knows where it lies.
    private func diskSource(of checkpoint: CheckpointID) -> DiskSource { .checkpoint(id, checkpoint) }

    /// Keeps the newest of those that restores and tries made; failures are logged and tried again after the next one.
    func thinAutomaticCheckpoints() async {
        for reasons in [[CheckpointReason.replaced, .replacedPath], [.attempt], [.promoted]] {
            let automatic = checkpoints.filter {
                reasons.contains($0.reason) && !$0.isPinned && $0.id != sprite.source
            }
            for old in automatic.dropLast(Limits.automaticCheckpointsMax) { await thin(old.id) }
        }
    }

    func thin(_ old: CheckpointID) async {
        do {
            try await removeCheckpoint(old)
        } catch {
            logger.warning("old automatic checkpoint not removed", metadata: ["error": "\(error)"])
        }
    }

    /// What undoing goes back to.
    var newestUndone: Checkpoint? { checkpoints.last { $0.reason.isUndone } }

    // MARK: One path

    /// Brings a path back from a checkpoint; returns what keeps the state before. The caller holds the turn.
    func restorePath(
        _ path: String, from target: CheckpointID, removesAbsent: Bool
    ) async throws -> (restored: RestoredPath, replaced: CheckpointID) {
        _ = try checkpoint(target)
        let sandbox = try await start()
        let kept = try await makeCheckpoint(
            comment: "replaced by restoring \(path.prefix(1000)) from \(target)", reason: .replacedPath, path: path)
        let intent = Intent.restorePath(id, replaced: kept.id)
        try await drivers.registry.begin(intent)
        do {
            let restored = try await drivers.trees.restorePath(
                Array(path.utf8), of: id, base: sprite.base, layer: try await layerPath(sprite, drivers), from: target,
                processID: sandbox.processID, removesAbsent: removesAbsent)
            try await drivers.registry.abandon(intent)
            await thinAutomaticCheckpoints()
            return (restored, kept.id)
        } catch {
            // Nothing was replaced, so there is nothing to undo.
            try await drivers.registry.abandon(intent)
            await thin(kept.id)
            throw error
        }
    }

    func pin(_ checkpointID: CheckpointID, _ isPinned: Bool) async throws -> Checkpoint {
        try checkExists()
        var changed = try checkpoint(checkpointID)
        changed.isPinned = isPinned
        try await drivers.registry.update(changed)
        replace(changed)
        return changed
    }
}

/// The row of a state that a restore replaced.
func keptState(_ replaced: CheckpointID, of sprite: Sprite, for target: CheckpointID) -> Checkpoint {
    var kept = Checkpoint(
        sprite: sprite.id, id: replaced, createdAt: .now(), comment: "replaced by restoring \(target)",
        source: sprite.source, base: sprite.base)
    kept.reason = .replaced
    return kept
}
