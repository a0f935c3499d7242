// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain

extension Lifecycle {
    /// The version of a base that a name means.
    func version(_ wanted: BaseName, _ verb: String) async throws -> BaseName {
        guard let base = try await drivers.storage.bases().resolve(wanted) else {
            throw SpriteError(
                .notFound, "cannot \(verb): no base is named '\(wanted)'; `sprited base list` shows those there are")
        }
        return base
    }

    package func upgradeBase(_ name: SpriteName, to wanted: BaseName?, isTrial: Bool) async throws -> BaseUpgrade {
        let machine = try machine(name)
        guard await machine.claimRestore() else {
            throw SpriteError(.conflict, "cannot upgrade: a restore of sprite '\(name)' is under way")
        }
        // Once begun it is finished, whether or not the client stays.
        return try await Task {
            do {
                let upgrade = try await machine.turns.withTurn {
                    let from = await machine.sprite.base
                    let to = try await self.version(wanted ?? from.family, "upgrade")
                    return try await machine.upgradeBase(from: from, to: to, isTrial: isTrial)
                }
                await machine.endRestore()
                return upgrade
            } catch {
                await machine.endRestore()
                throw error
            }
        }.value
    }
}

extension Machine {
    /// Puts another base under the disk; the caller holds the turn.
    ///
    /// The state before is kept as an automatic checkpoint that remembers its base, so that undoing a restore undoes
    /// this. The registry's row is what changes the base, so a crash leaves the one or the other.
    func upgradeBase(from: BaseName, to: BaseName, isTrial: Bool) async throws -> BaseUpgrade {
        try checkExists()
        guard from != to else { return BaseUpgrade(from: from, to: to) }
        let shadowed = try await drivers.storage.shadowedFiles(id, from: from, to: to)
        guard !isTrial else { return BaseUpgrade(from: from, to: to, shadowed: shadowed) }
        let before = sprite
        let kept = CheckpointID.automatic(before.nextAutomatic)
        let intent = Intent.checkpoint(id, kept)
        try await drivers.registry.begin(intent)
        var checkpoint = Checkpoint(
            sprite: id, id: kept, createdAt: .now(), comment: "before the base went from \(from) to \(to)",
            source: before.source, base: from)
        checkpoint.reason = .replaced
        var next = before
        next.nextAutomatic += 1
        next.base = to
        next.updatedAt = .now()
        do {
            try await stop(inOrder: true)
            try await drivers.storage.flush(id)
            try await drivers.storage.snapshot(id, as: kept)
            try await drivers.registry.complete(intent, .written(next, checkpoint))
        } catch {
            await undoCheckpoint(intent, kept)
            throw error
        }
        setSprite(next)
        record(checkpoint)
        do {
            _ = try await start()
        } catch {
            // Nothing ran on it: the disk is as it was.
            var back = sprite
            back.base = from
            try await drivers.registry.update(back)
            setSprite(back)
            _ = try? await start()
            throw SpriteError(
                .conflict, "cannot upgrade: the sprite does not start on base \(to); it is back on \(from)",
                cause: error)
        }
        await thinAutomaticCheckpoints()
        return BaseUpgrade(from: from, to: to, shadowed: shadowed, kept: kept)
    }
}
