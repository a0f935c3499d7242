// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Where the states of sprites' disks lie: one copy-on-write pool.
///
/// Every call is safe to repeat after a crash: creating what exists in full, or deleting what is gone, succeeds.
/// Throws ``SpriteError``: `.noSpace` when the pool is full, `.internalError` otherwise.
package protocol StorageDriver: Sendable {
    /// Makes a disk, empty or from a state of this or another sprite, that takes at most that many bytes.
    ///
    /// - Throws: `.unsupported` for a limit where the host's kernel has none.
    func createDisk(_ sprite: SpriteID, from source: DiskSource, limit bytes: UInt64?) async throws
    /// Changes that limit, or takes it away. What lies there already stays, however much it is.
    func limitDisk(_ sprite: SpriteID, bytes: UInt64?) async throws
    /// What the disk and its states take; takes time with the number of files.
    func diskUse(_ sprite: SpriteID, bases: Set<BaseName>) async throws -> DiskUse
    /// Writes out what is dirty of the sprite's disk, while it goes on.
    func flush(_ sprite: SpriteID) async throws
    /// Takes a read-only snapshot of the live disk, atomically.
    ///
    /// - Throws: `.conflict` if the disk holds nested subvolumes, whose content would be missing.
    func snapshot(_ sprite: SpriteID, as checkpoint: CheckpointID) async throws
    /// Exchanges the live disk for a copy of `source` and keeps the replaced state as read-only `replaced`.
    ///
    /// After a crash in the middle, calling it again with the same arguments completes it.
    func restore(_ sprite: SpriteID, from source: DiskSource, keepingReplacedAs replaced: CheckpointID) async throws
    /// Deletes a checkpoint's snapshot; space is reclaimed in the background.
    func deleteSnapshot(_ sprite: SpriteID, _ checkpoint: CheckpointID) async throws
    /// Deletes the live disk and every snapshot of the sprite.
    func deleteDisk(_ sprite: SpriteID) async throws
    /// What is on the disk, for comparison with the registry at start.
    func inventory() async throws -> [SpriteID: DiskInventory]
    /// Bases that can be used.
    func bases() async throws -> [BaseName]
    /// Mounts the sprite's root (base below, disk above) at a new place in the daemon's mount namespace.
    ///
    /// Verifies that it is writable: a refused upper directory otherwise shows only in the kernel's log.
    ///
    /// - Parameter layer: A folder that lies between base and disk, with the owners of the sprites' user namespace.
    func mountRoot(_ sprite: SpriteID, base: BaseName, layer: String?) async throws -> String
    /// Takes that mount out of the daemon's namespace; a running sandbox keeps its own. Idempotent.
    func unmountRoot(_ sprite: SpriteID) async
    /// A detached, read-only mount of a checkpoint as a whole root; the caller owns and closes the descriptor.
    func openCheckpointRoot(
        _ sprite: SpriteID, base: BaseName, layer: String?, _ checkpoint: CheckpointID
    ) async throws -> Int32
    /// What of the base `to` the sprite's own files hide, as far as it differs from `from`.
    func shadowedFiles(_ sprite: SpriteID, from: BaseName, to: BaseName) async throws -> ShadowReport
    /// A small file of the daemon's in the sprite's disk: snapshots carry it, nothing inside can reach it.
    /// Nil if there is none.
    func readDiskFile(_ sprite: SpriteID, _ name: String) async throws -> [UInt8]?
    /// Replaces it as a whole; on the disk when it returns.
    func writeDiskFile(_ sprite: SpriteID, _ name: String, _ bytes: [UInt8]) async throws
    /// Whether the sprite's own disk or its base has something at this path; a layer of runtimes is not looked at.
    func hasFile(_ sprite: SpriteID, base: BaseName, _ path: String) async throws -> Bool
    func space() async throws -> PoolSpace
}

package enum DiskSource: Sendable, Hashable {
    /// The empty state every sprite created from a base begins with.
    case empty
    case checkpoint(SpriteID, CheckpointID)
    /// The live disk of another sprite, held still by the caller.
    case live(SpriteID)
}

package struct DiskInventory: Sendable, Hashable {
    package var hasLiveDisk: Bool
    package var checkpoints: Set<CheckpointID>
    package init(hasLiveDisk: Bool, checkpoints: Set<CheckpointID>) {
        self.hasLiveDisk = hasLiveDisk
        self.checkpoints = checkpoints
    }
}

/// What a sprite's disk takes in the pool. Contents of files of a few KiB and less, and names, are not in these numbers,
/// except in `countedBytes`.
package struct DiskUse: Sendable, Hashable {
    /// One state and what it holds.
    package struct State: Sendable, Hashable {
        /// Nil for the live disk.
        package var checkpoint: CheckpointID?
        /// All that it refers to.
        package var bytes: UInt64
        /// What nothing but it refers to: that much comes back with its deletion.
        package var ownBytes: UInt64
        package init(checkpoint: CheckpointID?, bytes: UInt64, ownBytes: UInt64) {
            self.checkpoint = checkpoint
            self.bytes = bytes
            self.ownBytes = ownBytes
        }
    }

    /// What counts against the limit: all that was written in this sprite and still is anywhere; nil where nothing is
    /// counted.
    package var countedBytes: UInt64?
    /// What only states of this sprite refer to.
    package var ownBytes: UInt64
    /// What its base, a fork, or the sprite it was forked from refers to as well.
    package var sharedBytes: UInt64
    /// The live disk, then its checkpoints by their names.
    package var states: [State]
    package init(countedBytes: UInt64?, ownBytes: UInt64, sharedBytes: UInt64, states: [State]) {
        self.countedBytes = countedBytes
        self.ownBytes = ownBytes
        self.sharedBytes = sharedBytes
        self.states = states
    }
}

package struct PoolSpace: Sendable, Hashable {
    package var totalBytes: UInt64
    package var availableBytes: UInt64
    /// Nothing can be written since the disk below it failed, or was full.
    package var isReadOnly: Bool
    package init(totalBytes: UInt64, availableBytes: UInt64, isReadOnly: Bool = false) {
        self.totalBytes = totalBytes
        self.availableBytes = availableBytes
        self.isReadOnly = isReadOnly
    }
}

/// Namespaces for one sandbox, made ahead of time: a user namespace, a network namespace it owns, an address.
///
/// The descriptors are the only thing that keeps unused namespaces alive, so nothing is left if the daemon dies.
package struct NetworkSlot: Sendable, Hashable {
    package var userNamespace: Int32
    package var networkNamespace: Int32
    /// IPv4 address of the sprite, such as `10.77.0.5`.
    package var address: String
    package init(userNamespace: Int32, networkNamespace: Int32, address: String) {
        self.userNamespace = userNamespace
        self.networkNamespace = networkNamespace
        self.address = address
    }
}

/// Gives sprites a network: own namespace, outbound address translation, names.
package protocol NetworkDriver: Sendable {
    /// A slot that nobody uses; made ahead where possible.
    func acquire() async throws -> NetworkSlot
    /// The sandbox has taken the namespaces over: closes the slot's descriptors. Call exactly once per acquire.
    func handedOver(_ slot: NetworkSlot) async
    /// The address is free again; call when the sandbox is gone.
    func release(address: String) async
    /// At start: a sandbox that outlived the daemon uses this address.
    func adopt(address: String) async
    /// At start, after the last of these: ends what is in force for addresses that nobody has any more.
    func liftAbandoned() async
    /// Puts a network policy in force, before the sandbox starts or while it runs; nil, or one without rules, restricts
    /// nothing. Connections that it no longer allows are cut. The policy ends when the address is released.
    func apply(policy: String?, to address: String, of sprite: SpriteID) async throws
    /// Limits what the sprite with this address takes of the network, until the address is released; nil means no limit.
    func limit(_ address: String, bandwidthMbit: Int?, connections: Int?) async throws
    /// Sends requests of the sprite with this address to the hosts of secrets through the daemon, until the address is
    /// released; nil for none. In force when it returns; what used a secret that is gone is cut.
    func broker(_ brokerage: Brokerage?, to address: String, of sprite: SpriteID) async throws
    /// A new certificate authority; `.unsupported` where the operator did not enable brokering.
    func makeAuthority(for sprite: SpriteName) async throws -> SpriteAuthority
    /// Whether the operator enabled brokering.
    var isBroker: Bool { get }
    /// What the sprite contacted and was refused since the daemon started.
    func contacts(_ sprite: SpriteID) async -> [NetworkContact]
    /// The sprite is gone for ever.
    func forget(_ sprite: SpriteID) async
    /// Name servers for `/etc/resolv.conf` inside.
    var nameServers: [String] { get }
}

/// What to start.
package struct SandboxSpecification: Sendable {
    package var id: SpriteID
    package var hostname: String
    /// The mounted root, from ``StorageDriver/mountRoot(_:base:)``.
    package var root: String
    package var slot: NetworkSlot
    package var limits: ResourceLimits
    /// Nil for the driver's own.
    package var ociRuntime: String?
    /// A listening unix socket that PID 1 inherits as descriptor 3; the driver does not close it.
    package var agentSocket: Int32
    /// What becomes PID 1.
    package var initSystem: InitSystem
    package init(
        id: SpriteID, hostname: String, root: String, slot: NetworkSlot, limits: ResourceLimits,
        ociRuntime: String? = nil, agentSocket: Int32, initSystem: InitSystem = .sprite
    ) {
        self.initSystem = initSystem
        self.id = id
        self.hostname = hostname
        self.root = root
        self.slot = slot
        self.limits = limits
        self.ociRuntime = ociRuntime
        self.agentSocket = agentSocket
    }
}

/// A sandbox that runs.
package struct Sandbox: Sendable, Hashable {
    package var id: SpriteID
    /// PID 1 of the sprite, as the host sees it.
    package var processID: Int32
    package var address: String
    /// What PID 1 is.
    package var initSystem: InitSystem
    package init(id: SpriteID, processID: Int32, address: String, initSystem: InitSystem = .sprite) {
        self.id = id
        self.processID = processID
        self.address = address
        self.initSystem = initSystem
    }
}

/// Runs sandboxes through an OCI runtime.
package protocol SandboxDriver: Sendable {
    /// Throws `.unsupported` for a limit no cgroup hierarchy of this host can enforce, before anything is made.
    func checkLimits(_ limits: ResourceLimits) throws
    /// Throws for a runtime that sprites may not choose (`.invalidRequest`) or that is not installed (`.unsupported`).
    func checkRuntime(_ name: String) throws
    func start(_ specification: SandboxSpecification) async throws -> Sandbox
    /// Sandboxes that run now, from the runtime's own state; also cleans up what is half started or dead.
    func running() async throws -> [Sandbox]
    /// Holds every process still; returns when they are. `.timeout` if they cannot be held in time (and thaws).
    func freeze(_ id: SpriteID) async throws
    func thaw(_ id: SpriteID) async throws
    func setLimits(_ id: SpriteID, _ limits: ResourceLimits) async throws
    /// How often limits were hit since the sandbox began; zero where the host does not count.
    func limitHits(_ id: SpriteID) -> LimitHits
    /// Asks every process but PID 1 to end, a frozen one too; returns when they have, or after `grace`.
    func terminate(_ sandbox: Sandbox, grace: Duration) async
    /// Kills everything and removes what the runtime made; returns when it is gone. Idempotent.
    func destroy(_ id: SpriteID) async throws
    /// Completes when PID 1 of the sandbox has ended, whoever ended it.
    func waitForEnd(_ sandbox: Sandbox) async
    /// As the above, but not longer than `limit`; false if PID 1 still runs then.
    func waitForEnd(_ sandbox: Sandbox, within limit: Duration) async -> Bool
    /// Puts a detached mount into the sandbox at `/.sprite/checkpoints/<name>`; the descriptor stays the caller's.
    func showCheckpoint(_ sandbox: Sandbox, mount: Int32, name: String) async throws
    func hideCheckpoint(_ sandbox: Sandbox, name: String) async throws
    /// Shows the network policy at `/.sprite/policy/network.json` inside.
    func showPolicy(_ id: SpriteID, _ text: String) async throws
    /// Shows a certificate authority at ``BrokerEnvironment/certificatePath`` and beside it with the public ones.
    func showAuthority(_ id: SpriteID, _ certificate: String) async throws
}

/// Talks to PID 1 of sandboxes and keeps the sessions.
package protocol SessionDriver: Sendable {
    /// Makes the listening socket that the sandbox inherits; the caller closes it after the start.
    func listen(_ sprite: SpriteID) throws -> Int32
    /// Connects to PID 1, of a new sandbox or of one that outlived the daemon, and takes its sessions over.
    func connect(_ sprite: SpriteID, setup: AgentSetup) async throws
    /// What commands from now on have in their environment, under what the request gives.
    func setEnvironment(_ sprite: SpriteID, _ environment: [String: String]) async
    /// The sandbox is gone: ends every session of it as `.lost`.
    func disconnect(_ sprite: SpriteID) async
    /// Asks the sprite's init system to stop its services and end; returns at once.
    func shutDown(_ sprite: SpriteID) async
    /// Completes when whoever keeps the sessions inside is gone, unless ``disconnect(_:)`` came first.
    func waitForLoss(_ sprite: SpriteID) async
    func exec(_ sprite: SpriteID, _ request: ExecRequest) async throws -> any ExecSession
    /// What clients started and still runs.
    func sessions(_ sprite: SpriteID) async -> [SessionInfo]
    /// What the daemon itself started (`ExecRequest.tag`) and still runs, also from before its restart.
    func taggedSessions(_ sprite: SpriteID) async -> [any ExecSession]
    /// Throws `.notFound` or `.gone`.
    func session(_ sprite: SpriteID, _ id: String, ended: Bool) async throws -> any ExecSession
}

/// What PID 1 is told once when the daemon connects.
package struct AgentSetup: Sendable {
    package var hostname: String
    package var nameServers: [String]
    /// Every command's environment, under what the request gives.
    package var environment: [String: String]
    package init(hostname: String, nameServers: [String], environment: [String: String]) {
        self.hostname = hostname
        self.nameServers = nameServers
        self.environment = environment
    }
}

/// What should exist. Kept in SQLite, synchronous: what was committed is there after `kill -9` or power loss.
package protocol RegistryDriver: Sendable {
    func sprites() async throws -> [Sprite]
    func checkpoints(_ sprite: SpriteID) async throws -> [Checkpoint]
    func intents() async throws -> [Intent]
    /// Writes the intent in one transaction; for a creation it reserves the name (`.alreadyExists`).
    func begin(_ intent: Intent) async throws
    /// As the above, of a restore; what is to follow it is written in the same transaction.
    func begin(_ intent: Intent, resuming: Resumption) async throws
    /// What is to follow the sprite's last restore and was not started yet.
    func resumption(_ sprite: SpriteID) async throws -> Resumption?
    /// It was started, unless another restore has come since.
    func endResumption(_ sprite: SpriteID, replaced: CheckpointID) async throws
    /// Applies the outcome and removes the intent, in one transaction.
    func complete(_ intent: Intent, _ outcome: Outcome) async throws
    func abandon(_ intent: Intent) async throws
    func update(_ sprite: Sprite) async throws
    /// Writes a checkpoint's row anew.
    func update(_ checkpoint: Checkpoint) async throws
    func policy(_ sprite: SpriteID, _ kind: PolicyKind) async throws -> String?
    func setPolicy(_ sprite: SpriteID, _ kind: PolicyKind, _ text: String?) async throws
    func secrets(_ sprite: SpriteID) async throws -> [BrokeredSecret]
    /// Adds a secret, or replaces the one of the same id.
    func setSecret(_ sprite: SpriteID, _ secret: BrokeredSecret) async throws
    /// False if there was none.
    func removeSecret(_ sprite: SpriteID, _ id: String) async throws -> Bool
    func noteUse(_ sprite: SpriteID, secret: String, at time: Timestamp) async throws
    func authority(_ sprite: SpriteID) async throws -> SpriteAuthority?
    func setAuthority(_ sprite: SpriteID, _ authority: SpriteAuthority) async throws
    func tasks(_ sprite: SpriteID) async throws -> [SpriteTask]
    func setTask(_ sprite: SpriteID, _ task: SpriteTask) async throws
    func removeTasks(_ sprite: SpriteID, _ names: [String]) async throws
}

/// A change of several steps that was begun and is not done.
package enum Intent: Sendable, Hashable {
    /// Also a fork, when `source` is not `.empty`.
    case create(Sprite, source: DiskSource)
    case checkpoint(SpriteID, CheckpointID)
    case restore(SpriteID, from: CheckpointID, replaced: CheckpointID)
    case deleteCheckpoint(SpriteID, CheckpointID)
    /// A part of the disk is brought back; `replaced` keeps the state before.
    case restorePath(SpriteID, replaced: CheckpointID)
    case destroy(SpriteID)
}

package enum Outcome: Sendable, Hashable {
    /// The rows to write: the sprite as it is now, and a checkpoint that was made.
    case written(Sprite?, Checkpoint?)
    /// The rows of the intent's subject are removed.
    case removed
}

extension NetworkDriver {
    package func limit(_ address: String, _ limits: ResourceLimits) async throws {
        try await limit(address, bandwidthMbit: limits.bandwidthMbit, connections: limits.connections)
    }
}
