// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import HummingbirdCore
package import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import ServiceLifecycle
package import SpriteDomain
import SpriteMCP
import SpriteProxy

/// What the server needs to know.
package struct APIServerConfiguration: Sendable {
    package var host: String
    /// Zero lets the kernel choose.
    package var port: Int
    /// What a token is good for, nil for one that is not known; compares in constant time.
    package var grant: @Sendable (String) -> AccessGrant?
    /// Whether the token with this id, which was good, still is.
    package var isTokenGood: @Sendable (String) -> Bool = { _ in true }
    /// Nil: plain HTTP.
    package var certificate: Certificate?
    /// Names of this server besides its addresses and those of the loopback.
    package var allowedHosts: [String] = []
    /// Sites whose pages may use the server.
    package var allowedOrigins: [String] = []
    package var connectionsMax = Limits.connectionsMax
    package var connectionsPerAddressMax = Limits.connectionsPerAddressMax
    /// The name of the one organization.
    package var organization = "local"
    /// This server's version: the `Sprite-Version` header, from which one client chooses how to attach.
    package var version: String
    /// Where a sprite's own HTTP server is reached; `<name>` and `<port>` are filled in.
    package var urlTemplate = "http://<name>.sprites.localhost:<port>"
    /// Nil: services are not served.
    package var services: (any ServiceControl)?
    /// Where calls are recorded.
    package var journal: any JournalRecorder = NoJournal()
    /// Nil: the journal is not served.
    package var journalReader: (any JournalReader)?
    /// Nil: sprites have no API inside.
    package var inside: InsideServer?
    /// The guide for agents, for models that ask for it.
    package var guide = ""
    /// Measures in the text format of Prometheus.
    package var metrics: (@Sendable () async -> String)?
    /// Nil: comparisons, tries and races are not served.
    package var states: (any StateControl)?
    package var timing = Timing()
    /// Of one client address; nil: no limit.
    package var requestLimit: RateLimit?
    /// New sprites, forks included.
    package var creationLimit: RateLimit?

    package init(
        host: String, port: Int, version: String, grant: @escaping @Sendable (String) -> AccessGrant?
    ) {
        self.host = host
        self.port = port
        self.version = version
        self.grant = grant
    }
}

/// The HTTP and WebSocket API on one TCP address.
package struct APIServer: Service {
    private let service: APIService
    private let onListening: @Sendable (Int) async -> Void

    /// - Parameter onListening: Called once with the bound port, when requests are served.
    package init(
        control: any SpriteControl, configuration: APIServerConfiguration, logger: Logger,
        onListening: @escaping @Sendable (Int) async -> Void = { _ in }
    ) {
        service = APIService(control: control, configuration: configuration, logger: logger)
        self.onListening = onListening
    }

    /// Serves until the graceful shutdown of its group; throws if the address cannot be bound.
    package func run() async throws {
        let configuration = service.configuration
        let pipeline = ConnectionPipeline(service: service)
        let server = pipeline.server(
            configuration: ServerConfiguration(
                address: .hostname(configuration.host, port: configuration.port), backlog: 1024),
            onServerRunning: { [service, onListening] channel in
                let port = channel.localAddress?.port ?? configuration.port
                service.boundPort.withLockedValue { $0 = port }
                await onListening(port)
            },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton, logger: service.quietLogger)
        let inside = configuration.inside
        await inside?.open(service)
        let watch = AccessWatch(service: service)
        do {
            try await withGracefulShutdownHandler {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await watch.run() }
                    try await server.run()
                    group.cancelAll()
                }
            } onGracefulShutdown: {
                inside?.quiesce()
            }
        } catch {
            await inside?.close()
            throw error
        }
        await inside?.close()
    }
}

/// What every connection shares.
struct APIService: Sendable {
    let control: any SpriteControl
    let configuration: APIServerConfiguration
    let logger: Logger
    let boundPort: NIOLockedValueBox<Int>
    let ports = PortWatcher()
    /// Nil where the configured URL has no place for a sprite's name in its host.
    let spriteHosts: SpriteHosts?
    let conversations = MCPConversations()
    /// What commands of models printed is kept in it, so that all requests share one.
    private let mcpServer = NIOLockedValueBox<MCPServer?>(nil)
    let rules: ClientRules
    let live = LiveGrants()
    let connections: ConnectionCount
    let requests: RateLimiter
    let creations: RateLimiter

    init(control: any SpriteControl, configuration: APIServerConfiguration, logger: Logger) {
        self.control = control
        self.configuration = configuration
        self.logger = logger
        boundPort = NIOLockedValueBox(configuration.port)
        spriteHosts = SpriteHosts(template: configuration.urlTemplate)
        rules = ClientRules(hosts: configuration.allowedHosts, origins: configuration.allowedOrigins)
        connections = ConnectionCount(
            max: configuration.connectionsMax, perAddressMax: configuration.connectionsPerAddressMax)
        requests = RateLimiter(configuration.requestLimit, code: .rateLimited, verb: "answer so many requests")
        creations = RateLimiter(configuration.creationLimit, code: .creationRateLimited, verb: "create so many sprites")
    }

    var mcp: MCPServer {
        mcpServer.withLockedValue { made in
            if let made { return made }
            let service = self
            var world = MCPWorld(
                control: control, services: configuration.services, files: MCPFileAccess(control: control),
                guide: configuration.guide, version: configuration.version
            ) { name, sprite, user, id, then in
                let caller = InsideCaller(sprite: sprite, name: name, user: user, isAllowed: true)
                try await RequestOrigin.$current.withValue(.inside(user: user)) {
                    // The answer is out already; what carries it to the model gets a moment.
                    try await service.beginRestore(caller, id, then: then, acknowledge: { _ in }) {
                        try? await Task.sleep(for: Limits.insideFarewell)
                    }
                }
            }
            world.journal = configuration.journalReader
            let server = MCPServer(world, logger: logger)
            made = server
            return server
        }
    }

    /// For the HTTP library, whose start-up lines repeat what the daemon says itself.
    var quietLogger: Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }
}
