// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A sprite as the API shows it.
    ///
    /// ```json
    /// {"id": "sprite-4be1…", "name": "build-box", "organization": "local", "org_slug": "local", "status": "running",
    ///  "config": {"ram_mb": 2048, "cpus": 2}, "environment": {}, "url": "http://build-box.sprites.localhost:7780",
    ///  "url_settings": {"auth": "sprite"}, "labels": [], "base": "debian-bookworm", "init": "sprite", "version": "0.1.0",
    ///  "created_at": "2026-02-03T04:05:06.123456Z", "updated_at": "2026-02-03T04:05:06.123456Z",
    ///  "last_running_at": null, "last_warming_at": null}
    /// ```
    public struct Sprite: Codable, Sendable, Hashable {
        /// Opaque and never used again, unlike the name.
        public var id: String
        /// A DNS label, unique within the organization.
        public var name: String
        /// The organization the sprite belongs to.
        public var organization: String
        /// `cold`, `warm` or `running`; more may come.
        public var status: String
        /// Why it is in that state, for people (an addition of this server).
        public var statusReason: String?
        /// What the sprite may use.
        public var configuration: Configuration?
        /// Variables that every command of the sprite gets. May hold secrets; redacted in descriptions.
        public var environment: [String: String]?
        /// Where the HTTP server inside can be reached.
        public var url: String
        /// Who may reach it.
        public var urlSettings: URLSettings
        /// Words of the user's own, in the order given.
        public var labels: [String]
        /// The base image (an addition of this server).
        public var base: String?
        /// The layer of language runtimes, `NAME@VERSION` (an addition of this server); nil: none.
        public var runtimes: String?
        /// What runs as PID 1: `sprite`, `systemd`, `openrc` or `s6` (an addition of this server).
        public var initSystem: String?
        /// The server's version.
        public var version: String?
        /// RFC 3339.
        public var createdAt: String
        /// RFC 3339.
        public var updatedAt: String
        /// RFC 3339; nil if it never ran.
        public var lastRunningAt: String?
        /// RFC 3339; nil if it never slept.
        public var lastWarmingAt: String?
        /// Made for one operation, such as a race, and removed with it (an addition of this server).
        public var isEphemeral: Bool?
        /// In the answer to a fork: what was made new of its identity (an addition of this server).
        public var identity: Identity?

        /// A sprite with the fields that are always there.
        public init(
            id: String, name: String, organization: String, status: String, url: String, createdAt: String,
            updatedAt: String
        ) {
            self.id = id
            self.name = name
            self.organization = organization
            self.status = status
            self.url = url
            self.createdAt = createdAt
            self.updatedAt = updatedAt
            urlSettings = URLSettings()
            labels = []
        }

        /// Reads the object; only `name` is required.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            name = try object.decode(String.self, forKey: TextKey("name"))
            id = object.tolerant("id") ?? ""
            organization = object.tolerant("organization") ?? object.tolerant("org_slug") ?? ""
            status = object.tolerant("status") ?? ""
            statusReason = object.tolerant("status_reason")
            configuration = object.tolerant("config")
            environment = object.tolerant("environment")
            url = object.tolerant("url") ?? ""
            urlSettings = object.tolerant("url_settings") ?? URLSettings()
            labels = object.tolerant("labels") ?? []
            base = object.tolerant("base")
            runtimes = object.tolerant("runtimes")
            initSystem = object.tolerant("init")
            version = object.tolerant("version")
            createdAt = object.tolerant("created_at") ?? ""
            updatedAt = object.tolerant("updated_at") ?? ""
            lastRunningAt = object.tolerant("last_running_at")
            lastWarmingAt = object.tolerant("last_warming_at")
            isEphemeral = object.tolerant("ephemeral")
            identity = object.tolerant("identity")
        }

        /// Writes the object; the two last times are null where they are not known.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encode(id, forKey: TextKey("id"))
            try object.encode(name, forKey: TextKey("name"))
            try object.encode(organization, forKey: TextKey("organization"))
            try object.encode(organization, forKey: TextKey("org_slug"))
            try object.encode(status, forKey: TextKey("status"))
            try object.encodeIfPresent(statusReason, forKey: TextKey("status_reason"))
            try object.encodeIfPresent(configuration, forKey: TextKey("config"))
            try object.encodeIfPresent(environment, forKey: TextKey("environment"))
            try object.encode(url, forKey: TextKey("url"))
            try object.encode(urlSettings, forKey: TextKey("url_settings"))
            try object.encode(labels, forKey: TextKey("labels"))
            try object.encodeIfPresent(base, forKey: TextKey("base"))
            try object.encodeIfPresent(runtimes, forKey: TextKey("runtimes"))
            try object.encodeIfPresent(initSystem, forKey: TextKey("init"))
            try object.encodeIfPresent(version, forKey: TextKey("version"))
            try object.encode(createdAt, forKey: TextKey("created_at"))
            try object.encode(updatedAt, forKey: TextKey("updated_at"))
            try object.encode(lastRunningAt, forKey: TextKey("last_running_at"))
            try object.encode(lastWarmingAt, forKey: TextKey("last_warming_at"))
            try object.encodeIfPresent(isEphemeral, forKey: TextKey("ephemeral"))
            try object.encodeIfPresent(identity, forKey: TextKey("identity"))
        }
    }

    /// What a fork has of its own, so that it is not mistaken for the sprite it comes from.
    public struct Identity: Codable, Sendable, Hashable {
        /// Written anew: `hostname`, or a path such as `/etc/machine-id`.
        public var renewed: [String]
        /// Paths of files that went: host keys, of which new ones are made, and stale pid and lock files.
        public var removed: [String]

        /// A report.
        public init(renewed: [String], removed: [String]) {
            self.renewed = renewed
            self.removed = removed
        }
    }

    /// Resources of a sprite; absent or zero means no limit.
    public struct Configuration: Codable, Sendable, Hashable {
        /// Memory in MiB.
        public var memoryMiB: Int?
        /// CPUs' worth of time; fractions are an addition of this server.
        public var cpus: Double?
        /// Processes and threads (an addition of this server).
        public var pids: Int?
        /// Seconds without use until the sprite is frozen (an addition of this server); 0 means never.
        public var freezeAfterSeconds: Int?
        /// Seconds without use until the sprite is stopped (an addition of this server); 0 means never.
        public var stopAfterSeconds: Int?
        /// The OCI runtime the sprite starts under, chosen at its creation (an addition of this server).
        public var ociRuntime: String?
        /// What the disk may take with its checkpoints, in GiB; absent where it is not a whole number.
        public var storageGB: Int?
        /// The same in MiB (an addition of this server); wins where both are sent.
        public var diskMiB: Int?
        /// Megabits a second in each direction (an addition of this server).
        public var bandwidthMbit: Int?
        /// Connections outwards at once (an addition of this server).
        public var connections: Int?
        /// Started together with the daemon, as after a reboot of the host (an addition of this server).
        public var startsWithHost: Bool?
        /// Accepted for compatibility and ignored: there is one place.
        public var region: String?

        /// Resources with the given limits.
        public init(memoryMiB: Int? = nil, cpus: Double? = nil, pids: Int? = nil) {
            self.memoryMiB = memoryMiB
            self.cpus = cpus
            self.pids = pids
        }

        /// Reads both spellings that clients use, `ram_mb` and `ramMB`.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            memoryMiB = try object.value("ram_mb", "ramMB")
            cpus = try object.value("cpus")
            pids = try object.value("pids")
            freezeAfterSeconds = try object.value("freeze_after_seconds")
            stopAfterSeconds = try object.value("stop_after_seconds")
            ociRuntime = try object.value("oci_runtime")
            storageGB = try object.value("storage_gb", "storageGB")
            diskMiB = try object.value("disk_mb")
            bandwidthMbit = try object.value("bandwidth_mbit")
            connections = try object.value("connections")
            startsWithHost = try object.value("autostart")
            region = try object.value("region")
        }

        /// Writes snake-case keys, and only what is set.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encodeIfPresent(memoryMiB, forKey: TextKey("ram_mb"))
            try object.encodeIfPresent(cpus, forKey: TextKey("cpus"))
            try object.encodeIfPresent(pids, forKey: TextKey("pids"))
            try object.encodeIfPresent(freezeAfterSeconds, forKey: TextKey("freeze_after_seconds"))
            try object.encodeIfPresent(stopAfterSeconds, forKey: TextKey("stop_after_seconds"))
            try object.encodeIfPresent(ociRuntime, forKey: TextKey("oci_runtime"))
            try object.encodeIfPresent(storageGB, forKey: TextKey("storage_gb"))
            try object.encodeIfPresent(diskMiB, forKey: TextKey("disk_mb"))
            try object.encodeIfPresent(bandwidthMbit, forKey: TextKey("bandwidth_mbit"))
            try object.encodeIfPresent(connections, forKey: TextKey("connections"))
            try object.encodeIfPresent(startsWithHost, forKey: TextKey("autostart"))
            try object.encodeIfPresent(region, forKey: TextKey("region"))
        }
    }

    /// Who may reach a sprite's URL.
    public struct URLSettings: Codable, Sendable, Hashable {
        /// `sprite` (a token is needed) or `public`; empty or nil means the default.
        public var auth: String?
        /// Accepted for compatibility.
        public var privateAccess: String?

        /// Settings with the default, `sprite`, unless told otherwise.
        public init(auth: String? = "sprite") { self.auth = auth }

        private enum CodingKeys: String, CodingKey {
            case auth
            case privateAccess = "private_access"
        }
    }

    /// One page of a list of sprites, in the order of names.
    public struct SpritePage: Codable, Sendable, Hashable {
        /// The sprites of this page; never null.
        public var sprites: [Sprite]
        /// Whether there are more.
        public var hasMore: Bool
        /// For the query of the next page; nil at the end.
        public var nextContinuationToken: String?
        /// How many sprites there are of each status; nil if the server does not say.
        public var counts: SpriteCounts?

        /// A page; there are more exactly when there is a token.
        public init(sprites: [Sprite], nextContinuationToken: String?) {
            self.sprites = sprites
            self.hasMore = nextContinuationToken != nil
            self.nextContinuationToken = nextContinuationToken
        }

        /// Reads a page; a missing list is an empty one.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            sprites = try object.value("sprites") ?? []
            hasMore = object.tolerant("has_more") ?? false
            nextContinuationToken = object.tolerant("next_continuation_token")
            counts = object.tolerant("org")
        }

        /// Writes the token as null at the end.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encode(sprites, forKey: TextKey("sprites"))
            try object.encode(hasMore, forKey: TextKey("has_more"))
            try object.encode(nextContinuationToken, forKey: TextKey("next_continuation_token"))
            guard let counts else { return }
            try object.encode(counts.running, forKey: TextKey("running"))
            try object.encode(counts.warm, forKey: TextKey("warm"))
            try object.encode(counts.cold, forKey: TextKey("cold"))
            try object.encode(counts, forKey: TextKey("org"))
        }
    }

    /// How many sprites of an organization there are of each status.
    public struct SpriteCounts: Codable, Sendable, Hashable {
        /// The organization.
        public var name: String
        /// Those that run.
        public var running: Int
        /// Those that are frozen.
        public var warm: Int
        /// Those that are stopped.
        public var cold: Int

        /// Counts of an organization.
        public init(name: String, running: Int, warm: Int, cold: Int) {
            self.name = name
            self.running = running
            self.warm = warm
            self.cold = cold
        }
    }

    /// A line of the endless list: a sprite as it is, one that is gone, or a sign of life.
    ///
    /// ```json
    /// {"name": "build-box", "status": "running", "status_reason": "in use", "running_version": "0.1.0",
    ///  "last_running_at": "2026-02-03T04:05:06Z", "last_warming_at": null, "timestamp": "2026-02-03T04:05:07Z",
    ///  "org": {"name": "local", "running": 1, "warm": 4, "cold": 9}}
    /// {"type": "removed", "name": "build-box", "timestamp": "2026-02-03T04:06:00Z"}
    /// {"type": "heartbeat", "timestamp": "2026-02-03T04:06:15Z"}
    /// ```
    public struct SpriteEvent: Codable, Sendable, Hashable {
        /// `removed` or `heartbeat`; nil for a sprite.
        public var type: String?
        /// The sprite.
        public var name: String?
        /// Its state.
        public var status: String?
        /// Why it is in that state (an addition of this server).
        public var statusReason: String?
        /// The server's version.
        public var runningVersion: String?
        /// RFC 3339; nil if it never ran.
        public var lastRunningAt: String?
        /// RFC 3339; nil if it was not frozen since the daemon began.
        public var lastWarmingAt: String?
        /// RFC 3339.
        public var timestamp: String
        /// Of all sprites.
        public var organization: SpriteCounts?

        /// A line of that kind.
        public init(type: String? = nil, timestamp: String) {
            self.type = type
            self.timestamp = timestamp
        }

        private enum CodingKeys: String, CodingKey {
            case type, name, status, timestamp
            case statusReason = "status_reason"
            case runningVersion = "running_version"
            case lastRunningAt = "last_running_at"
            case lastWarmingAt = "last_warming_at"
            case organization = "org"
        }
    }
}

extension API.Sprite: CustomStringConvertible {
    /// The name and the state; never the environment, which may hold secrets.
    public var description: String { "sprite \(name) (\(status))" }
}
