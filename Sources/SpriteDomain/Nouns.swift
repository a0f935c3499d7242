// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Nanoseconds since 1970, UTC. A type of our own keeps Foundation out of this target.
package struct Timestamp: Hashable, Sendable, Comparable {
    package var nanoseconds: Int64
    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    package static func < (a: Timestamp, b: Timestamp) -> Bool { a.nanoseconds < b.nanoseconds }
}

/// What a sprite may use. `nil` means no limit of its own, except for processes, where a default applies.
package struct ResourceLimits: Hashable, Sendable {
    package var memoryMiB: Int?
    /// CPUs' worth of time, such as 0.5 or 2.
    package var cpus: Double?
    package var pids: Int?
    /// What the disk and its checkpoints may take.
    package var diskMiB: Int?
    /// Megabits a second, in each direction.
    package var bandwidthMbit: Int?
    /// Connections outwards at once.
    package var connections: Int?
    package init(memoryMiB: Int? = nil, cpus: Double? = nil, pids: Int? = nil, diskMiB: Int? = nil) {
        self.memoryMiB = memoryMiB
        self.cpus = cpus
        self.pids = pids
        self.diskMiB = diskMiB
    }

    package var diskBytes: UInt64? { diskMiB.map { UInt64($0) << 20 } }

    /// Those that the sandbox enforces.
    package var ofSandbox: ResourceLimits { ResourceLimits(memoryMiB: memoryMiB, cpus: cpus, pids: pids) }

    /// Whether those of the network are the same.
    package func hasNetworkLimits(of other: ResourceLimits) -> Bool {
        bandwidthMbit == other.bandwidthMbit && connections == other.connections
    }
}

/// When an unused sprite goes to sleep. `nil` means the daemon's default, zero means never.
package struct IdlePolicy: Hashable, Sendable {
    /// Seconds without use until it is frozen: memory is kept, no processor time is used, waking takes a millisecond.
    package var freezeAfterSeconds: Int?
    /// Seconds without use until it is stopped: only the disk stays.
    package var stopAfterSeconds: Int?
    package init(freezeAfterSeconds: Int? = nil, stopAfterSeconds: Int? = nil) {
        self.freezeAfterSeconds = freezeAfterSeconds
        self.stopAfterSeconds = stopAfterSeconds
    }
}

package enum URLAuthentication: String, Sendable, Hashable { case sprite, `public` }

/// Rules the public API keeps per sprite.
package enum PolicyKind: String, Sendable, Hashable, CaseIterable {
    case network, privileges, resources
    /// When checkpoints are made without anybody asking; an addition of this server.
    case checkpoints
}

/// `running`: the machine runs. `warm`: frozen, memory kept. `cold`: stopped, only its disk stays.
package enum SpriteStatus: String, Sendable, Hashable { case cold, warm, running }

/// A sprite as the registry holds it.
package struct Sprite: Sendable, Hashable {
    package var id: SpriteID
    package var name: SpriteName
    package var base: BaseName
    package var limits: ResourceLimits
    package var idle: IdlePolicy
    /// Variables every command of the sprite gets. Redacted in descriptions: may hold secrets.
    package var environment: [String: String]
    package var labels: [String]
    package var urlAuthentication: URLAuthentication
    package var createdAt: Timestamp
    package var updatedAt: Timestamp
    package var lastRunningAt: Timestamp?
    /// The checkpoint the live state descends from.
    package var source: CheckpointID
    /// The OCI runtime it starts under; nil for the daemon's.
    package var ociRuntime: String?
    /// Number of the next `v…` checkpoint.
    package var nextVersion: UInt32
    package var nextAutomatic: UInt32
    /// The layer of language runtimes between base and disk; nil: none.
    package var runtimes: RuntimesVersion?
    /// Started together with the daemon where it does not run, as after a reboot of the host.
    package var startsWithHost = false
    /// Made for one operation: removed with it, or at the next start of the daemon.
    package var isEphemeral = false
    /// The name the sprite has inside, where it is not its own; not kept.
    package var hostname: String?

    package init(
        id: SpriteID, name: SpriteName, base: BaseName, limits: ResourceLimits = .init(),
        idle: IdlePolicy = .init(), environment: [String: String] = [:], labels: [String] = [],
        urlAuthentication: URLAuthentication = .sprite, createdAt: Timestamp, updatedAt: Timestamp,
        lastRunningAt: Timestamp? = nil,
        source: CheckpointID = .initial, ociRuntime: String? = nil, nextVersion: UInt32 = 1, nextAutomatic: UInt32 = 1,
        runtimes: RuntimesVersion? = nil
    ) {
        self.id = id
        self.name = name
        self.base = base
        self.limits = limits
        self.idle = idle
        self.environment = environment
        self.labels = labels
        self.urlAuthentication = urlAuthentication
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.lastRunningAt = lastRunningAt
        self.source = source
        self.ociRuntime = ociRuntime
        self.nextVersion = nextVersion
        self.nextAutomatic = nextAutomatic
        self.runtimes = runtimes
    }
}

extension Sprite: CustomStringConvertible {
    package var description: String { "sprite \(name) (\(id))" }
}

/// A sprite and the state it is in now.
package struct SpriteView: Sendable, Hashable {
    package var sprite: Sprite
    package var status: SpriteStatus
    /// What is PID 1 in it, or will be at its next start.
    package var initSystem: InitSystem
    /// Why it is in that state, for people.
    package var reason: String?
    /// When it was frozen last, since the daemon began.
    package var lastWarmingAt: Timestamp?
    package init(
        sprite: Sprite, status: SpriteStatus, initSystem: InitSystem = .sprite, reason: String? = nil,
        lastWarmingAt: Timestamp? = nil
    ) {
        self.sprite = sprite
        self.status = status
        self.initSystem = initSystem
        self.reason = reason
        self.lastWarmingAt = lastWarmingAt
    }
}

/// Why a checkpoint was made.
package enum CheckpointReason: String, Sendable, Hashable {
    /// Somebody asked for it.
    case requested
    /// A restore of the whole disk replaced this state.
    case replaced
    /// A restore of one path replaced what this state has there.
    case replacedPath = "replaced_path"
    /// The sprite's policy asks for it.
    case policy
    /// A command was about to be tried.
    case attempt = "try"
    /// The state of a fork that was chosen.
    case promoted

    /// Whether undoing goes back to it.
    package var isUndone: Bool { self == .replaced || self == .replacedPath }
}

package struct Checkpoint: Sendable, Hashable {
    package var sprite: SpriteID
    package var id: CheckpointID
    package var reason = CheckpointReason.requested
    /// Never removed without being asked for by its id.
    package var isPinned = false
    /// With ``CheckpointReason/replacedPath``: what was brought back.
    package var path: String?
    package var createdAt: Timestamp
    package var comment: String?
    /// The checkpoint this one descends from; nil for `v0`.
    package var source: CheckpointID?
    /// Nanoseconds spent writing out dirty data before the snapshot, while the sprite went on.
    package var flush: Duration
    /// Time of the snapshot itself, during which the sprite was held still.
    package var snapshot: Duration
    /// The version of the base that the state lies on; nil: whatever the sprite has now.
    package var base: BaseName?
    package init(
        sprite: SpriteID, id: CheckpointID, createdAt: Timestamp, comment: String? = nil, source: CheckpointID? = nil,
        flush: Duration = .zero, snapshot: Duration = .zero, base: BaseName? = nil
    ) {
        self.base = base
        self.sprite = sprite
        self.id = id
        self.createdAt = createdAt
        self.comment = comment
        self.source = source
        self.flush = flush
        self.snapshot = snapshot
    }
}

/// What to create.
package struct SpriteCreation: Sendable {
    package var name: SpriteName
    package var base: BaseName?
    package var limits: ResourceLimits
    package var idle = IdlePolicy()
    package var ociRuntime: String?
    package var startsWithHost = false
    package var environment: [String: String]
    package var labels: [String]
    package var urlAuthentication: URLAuthentication
    /// `none`, `NAME` or `NAME@VERSION`; nil: what the operator chose for the base.
    package var runtimes: String?
    package init(
        name: SpriteName, base: BaseName? = nil, limits: ResourceLimits = .init(), environment: [String: String] = [:],
        labels: [String] = [], urlAuthentication: URLAuthentication = .sprite
    ) {
        self.name = name
        self.base = base
        self.limits = limits
        self.environment = environment
        self.labels = labels
        self.urlAuthentication = urlAuthentication
    }
}

/// A partial update: nil fields stay as they are.
package struct SpriteUpdate: Sendable {
    package var labels: [String]?
    package var urlAuthentication: URLAuthentication?
    package var limits: ResourceLimits?
    package var idle: IdlePolicy?
    package var startsWithHost: Bool?
    package init(labels: [String]? = nil, urlAuthentication: URLAuthentication? = nil, limits: ResourceLimits? = nil) {
        self.labels = labels
        self.urlAuthentication = urlAuthentication
        self.limits = limits
    }
}

package struct SpritePage: Sendable {
    package var sprites: [SpriteView]
    /// Ask for the names after this one; nil at the end.
    package var next: String?
    /// How many sprites there are of each status, whatever the page shows.
    package var counts: [SpriteStatus: Int]
    package init(sprites: [SpriteView], next: String?, counts: [SpriteStatus: Int] = [:]) {
        self.sprites = sprites
        self.next = next
        self.counts = counts
    }
}
