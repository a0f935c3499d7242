// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Tells a caller how a longer operation goes; lines are for people.
package typealias Progress = @Sendable (String) async -> Void

/// A reason for a sprite to stay awake, such as an open connection.
package protocol SpriteUse: AnyObject, Sendable {
    var id: SpriteID { get }
    /// PID 1 of the sprite on the host, for what enters its namespaces.
    var processID: Int32 { get }
    /// Idempotent; an object that is dropped ends by itself.
    func end()
}

/// Everything the API can ask of sprites. `SpriteServer` calls it, `SpriteLifecycle` does it.
///
/// Every call throws ``SpriteError``; a sprite that is not there is `.notFound`, whatever was asked of it.
/// Anything that needs the machine wakes it.
package protocol SpriteControl: Sendable {
    /// Creates and starts a sprite. Throws `.alreadyExists`, `.noSpace`, `.unsupported` (a limit the host lacks).
    func create(_ creation: SpriteCreation) async throws -> SpriteView
    /// Sprites in name order whose names begin with `prefix` and come after `after`.
    func list(prefix: String, after: String?, limit: Int) async throws -> SpritePage
    func get(_ name: SpriteName) async throws -> SpriteView
    func update(_ name: SpriteName, _ update: SpriteUpdate) async throws -> SpriteView
    /// Gives the sprite another version of its runtimes from its next start on.
    ///
    /// - Parameter runtimes: `none`, `NAME` or `NAME@VERSION`; nil: the version in use of the layer that it has.
    func upgrade(_ name: SpriteName, runtimes: String?) async throws -> SpriteView
    /// Puts the sprite to sleep now: what runs is asked to end, and killed after a while. The next use starts it again.
    ///
    /// Throws `.conflict` while a restore runs.
    func stop(_ name: SpriteName) async throws -> SpriteView
    /// Stops the sprite and starts it again. Throws `.conflict` while a restore runs.
    func restart(_ name: SpriteName) async throws -> SpriteView
    /// Kills what runs and deletes the sprite with its checkpoints. Returns when name and host are free of it.
    func destroy(_ name: SpriteName) async throws
    /// A new sprite from a checkpoint of `source`, or from its state of now. Copies limits, environment and labels.
    func fork(_ source: SpriteName, to name: SpriteName, checkpoint: CheckpointID?) async throws -> SpriteView

    /// Snapshots the live disk; the sprite goes on. Throws `.conflict` while a restore runs.
    func checkpoint(_ name: SpriteName, comment: String?, progress: Progress) async throws -> Checkpoint
    /// Newest first, `v0` included.
    func checkpoints(_ name: SpriteName, includeAutomatic: Bool) async throws -> [Checkpoint]
    func checkpoint(_ name: SpriteName, _ id: CheckpointID) async throws -> Checkpoint
    /// Throws `.conflict` for the checkpoint the live state descends from and for `v0`.
    func deleteCheckpoint(_ name: SpriteName, _ id: CheckpointID) async throws
    /// Puts the disk back to `id`, keeping the replaced state as an automatic checkpoint, whose id is returned.
    ///
    /// All sessions end. When it returns the sprite runs again. Throws `.conflict` while another restore runs.
    ///
    /// - Parameter followUp: Started afterwards, even if the daemon ends before it comes to that.
    func restore(
        _ name: SpriteName, _ id: CheckpointID, then followUp: FollowUp?, progress: Progress
    ) async throws -> CheckpointID
    /// Restores the state the last restore replaced. Throws `.notFound` if there was none.
    func undoRestore(_ name: SpriteName, then followUp: FollowUp?, progress: Progress) async throws -> CheckpointID

    /// Puts another version of its base (nil: the newest) or another base under the sprite, which is stopped and started.
    ///
    /// The state before is kept as an automatic checkpoint; undoing a restore goes back to it and its base.
    ///
    /// - Parameter isTrial: Only reports.
    func upgradeBase(_ name: SpriteName, to base: BaseName?, isTrial: Bool) async throws -> BaseUpgrade

    /// The policy's JSON as it was set; nil if it never was.
    func policy(_ name: SpriteName, _ kind: PolicyKind) async throws -> String?
    /// Keeps a policy, or forgets it (nil). One for the network is in force when it returns.
    func setPolicy(_ name: SpriteName, _ kind: PolicyKind, _ text: String?) async throws
    /// What the sprite contacted and was refused since the daemon started, oldest first.
    func networkContacts(_ name: SpriteName) async throws -> [NetworkContact]

    /// Secrets by their ids, in order; their values are for the daemon only.
    func secrets(_ name: SpriteName) async throws -> [BrokeredSecret]
    /// Adds or replaces a secret; requests carry it when this returns.
    ///
    /// Throws `.unsupported` where the operator did not enable brokering, `.limitReached` over
    /// `Limits.secretsPerSpriteMax`, `.conflict` if another secret has the same host and header.
    func setSecret(_ name: SpriteName, _ secret: BrokeredSecret) async throws
    /// No request carries it when this returns. Throws `.notFound`.
    func removeSecret(_ name: SpriteName, _ id: String) async throws

    /// Wakes the sprite and keeps it awake until the returned use is ended.
    func use(_ name: SpriteName) async throws -> any SpriteUse

    /// Tasks that hold the sprite awake, oldest first.
    func tasks(_ name: SpriteName) async throws -> [SpriteTask]
    /// Begins a task or prolongs it; a sprite that sleeps is woken.
    ///
    /// Throws `.alreadyExists` if `isNew` and it is there, `.limitReached` over `Limits.tasksPerSpriteMax`.
    func setTask(_ name: SpriteName, _ task: String, seconds: Int, isNew: Bool) async throws -> SpriteTask
    func endTask(_ name: SpriteName, _ task: String) async throws

    func exec(_ name: SpriteName, _ request: ExecRequest) async throws -> any ExecSession
    /// Sessions that run.
    func sessions(_ name: SpriteName) async throws -> [SessionInfo]
    /// Throws `.notFound` for an id that never was, `.gone` for one that has ended.
    func session(_ name: SpriteName, _ id: String, ended: Bool) async throws -> any ExecSession
}

extension SpriteControl {
    package func session(_ name: SpriteName, _ id: String) async throws -> any ExecSession {
        try await session(name, id, ended: false)
    }

    package func restore(
        _ name: SpriteName, _ id: CheckpointID, progress: Progress
    ) async throws -> CheckpointID {
        try await restore(name, id, then: nil, progress: progress)
    }

    package func undoRestore(_ name: SpriteName, progress: Progress) async throws -> CheckpointID {
        try await undoRestore(name, then: nil, progress: progress)
    }
}
