// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A command the sprite keeps running.
package struct ServiceDefinition: Sendable, Hashable, Codable {
    package var name: String
    package var command: String
    package var arguments: [String]
    /// Services that must run before this one is started.
    package var needs: [String]
    /// The port that requests to the sprite's URL go to.
    package var httpPort: Int?
    package var environment: [String: String]
    /// Working directory; nil means the user's home.
    package var directory: String?
    /// A stop by the user holds until the next start by the user, over reboots and restores.
    package var isStopped: Bool
    /// Another with each definition and restart: tells the process that is wanted from one that is to end. Nil in
    /// definitions that an earlier version kept.
    package var run: Int?

    package init(
        name: String, command: String, arguments: [String] = [], needs: [String] = [], httpPort: Int? = nil,
        environment: [String: String] = [:], directory: String? = nil, isStopped: Bool = false
    ) {
        self.name = name
        self.command = command
        self.arguments = arguments
        self.needs = needs
        self.httpPort = httpPort
        self.environment = environment
        self.directory = directory
        self.isStopped = isStopped
    }
}

/// What marks the session of a service: its name, and for which ``ServiceDefinition/run`` it was started.
package struct ServiceTag: Sendable, Hashable {
    private static let prefix = "service:"
    package var name: String
    package var run: Int?

    package init(_ definition: ServiceDefinition) {
        name = definition.name
        run = definition.run
    }

    /// - Returns: Nil for the tag of anything else.
    package init?(_ text: String?) {
        guard let text, text.hasPrefix(Self.prefix) else { return nil }
        let parts = text.dropFirst(Self.prefix.count).split(separator: "#", maxSplits: 1)
        guard let first = parts.first else { return nil }
        name = String(first)
        run = parts.count > 1 ? Int(parts[1]) : nil
    }

    package var text: String { Self.prefix + name + (run.map { "#\($0)" } ?? "") }
}

package enum ServiceStatus: String, Sendable, Hashable { case stopped, starting, running, stopping, failed }

/// A service and the state it is in now.
package struct ServiceView: Sendable, Hashable {
    package var definition: ServiceDefinition
    package var status: ServiceStatus
    package var startedAt: Timestamp?
    package var restartCount: Int
    package var nextRestartAt: Timestamp?
    package var error: String?

    package init(
        definition: ServiceDefinition, status: ServiceStatus, startedAt: Timestamp? = nil, restartCount: Int = 0,
        nextRestartAt: Timestamp? = nil, error: String? = nil
    ) {
        self.definition = definition
        self.status = status
        self.startedAt = startedAt
        self.restartCount = restartCount
        self.nextRestartAt = nextRestartAt
        self.error = error
    }
}

/// Something that happened to a service, in order.
package struct ServiceEvent: Sendable, Hashable {
    package enum Kind: Sendable, Hashable {
        case started
        case output(OutputStream, String)
        case exited(UInt8)
        case failed(String)
        case stopping
        case stopped(UInt8?)
    }
    package var kind: Kind
    package var time: Timestamp
    package init(_ kind: Kind, at time: Timestamp = .now()) {
        self.kind = kind
        self.time = time
    }
}

/// What the API can ask of a sprite's services. Every call wakes the sprite.
///
/// Throws ``SpriteError``: `.notFound` for an unknown sprite or service.
package protocol ServiceControl: Sendable {
    func services(_ sprite: SpriteName) async throws -> [ServiceView]
    func service(_ sprite: SpriteName, _ name: String) async throws -> ServiceView
    /// Defines or replaces a service and starts it; the stream tells what happens from then on and never ends.
    ///
    /// Throws `.invalidRequest` for unknown or circular needs, `.conflict` if another service has an HTTP port.
    func define(_ sprite: SpriteName, _ definition: ServiceDefinition) async throws -> AsyncStream<ServiceEvent>
    func start(_ sprite: SpriteName, _ name: String) async throws -> AsyncStream<ServiceEvent>
    func restart(_ sprite: SpriteName, _ name: String) async throws -> AsyncStream<ServiceEvent>
    /// SIGTERM, after `timeout` SIGKILL; the stream ends once it is stopped. `.conflict` if it does not run.
    func stop(_ sprite: SpriteName, _ name: String, timeout: Duration) async throws -> AsyncStream<ServiceEvent>
    /// `.conflict` while another service needs it.
    func delete(_ sprite: SpriteName, _ name: String) async throws
    /// `.conflict` if it does not run.
    func signal(_ sprite: SpriteName, _ name: String, _ signal: Int32) async throws
    /// The last lines that are kept, then what comes.
    func logs(_ sprite: SpriteName, _ name: String, lines: Int) async throws -> AsyncStream<ServiceEvent>
    /// The port of the service that requests to the sprite's URL go to; nil if none says.
    func httpPort(_ sprite: SpriteName) async throws -> Int?
}

/// Told by the lifecycle what becomes of a sprite's machine.
package protocol ServiceDriver: Sendable {
    /// The sprite runs, on the disk it has now: starts its services, or takes over those that run.
    func started(_ sprite: SpriteID) async
    /// The sprite is about to stop: nothing is restarted any more.
    func stopping(_ sprite: SpriteID) async
}
