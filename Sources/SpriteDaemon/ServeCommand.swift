// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import CLinux
import Glibc
import Logging
import ServiceLifecycle
import SpriteDomain
import SpriteJournal
import SpriteLifecycle
import SpriteNetwork
import SpriteRuntimes
import SpriteSandbox
import SpriteServer
import SpriteSystem
import UnixSignals

/// `sprited serve`: the daemon.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve the API.",
        discussion: """
            Prints exactly one line to standard output, `listening on http://HOST:PORT`, once requests are served; logs \
            go to standard error, one JSON object a line. Sprites go on when the daemon ends, and a new one takes \
            them over.
            """)

    @OptionGroup var data: DataOptions
    @Option(help: "Address to listen on, HOST:PORT; port 0 lets the kernel choose. (default: 127.0.0.1:7780)")
    var listen: String?
    @Option(name: .customLong("config"), help: "A JSON file with settings; flags win over it.")
    var configurationFile: String?
    @Option(name: .customLong("pool-size"), help: "Size of the pool's image where one has to be made, such as 50G.")
    var poolSize: String?
    @Option(help: "The OCI runtime. (default: crun)")
    var runtime: String?
    @Option(name: .customLong("guest-binary"), help: "The static sprite-env that runs inside sprites.")
    var guestBinary: String?
    @Option(help: "Addresses of sprites, such as 10.77.0.0/20. (default: a free one)")
    var subnet: String?
    @Option(name: .customLong("default-base"), help: "The base of new sprites. (default: the newest)")
    var defaultBase: String?
    @Option(name: .customLong("runtimes-cache"), help: "What runtimes may keep on this host's disk. (default: 4G)")
    var runtimesCache: String?
    @Option(
        name: .customLong("runtimes-names"),
        help: "Who looks up names in runtimes: kernel (EROFS, if it can), or juicefs. (default: kernel)")
    var runtimesNames: String?
    @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning or error. (default: info)")
    var logLevel: String?

    @Option(
        name: .customLong("inside-users"),
        help: "Users who may use the API inside their sprite: any, or numbers. (default: root,sprite)")
    var insideUsers: String?
    @Option(
        name: .customLong("rate-limit"),
        help: "Requests of one client address, such as 600/m, 20/s or 1000/h. (default: off)")
    var rateLimit: String?
    @Option(
        name: .customLong("create-limit"), help: "New sprites of one client address, such as 10/m. (default: off)")
    var createLimit: String?
    @Option(
        name: .customLong("client-timeout"),
        help: "Seconds until a client is cut off that takes nothing of what waits for it, or off. (default: 300)")
    var clientTimeout: String?
    @Option(
        name: .customLong("memory-reserve"),
        help: "Memory kept free by stopping frozen sprites, such as 2G or 5%, or off. (default: 5%)")
    var memoryReserve: String?
    @Option(
        name: .customLong("max-awake"),
        help: "Sprites that may run or be frozen at once, such as 20, or off. (default: off)")
    var maxAwake: String?

    @Flag(
        name: .customLong("credential-broker"),
        help: "Let sprites have secrets that their requests carry and that they cannot read.")
    var credentialBroker = false

    @OptionGroup var access: AccessOptions

    func run() async throws {
        let names = try data.names()
        let settings = try merged()
        let address = try ListenAddress(settings.listen ?? "127.0.0.1:7780")
        let level = try settings.logLevel.map(parseLogLevel) ?? .info
        LoggingSystem.bootstrap { JSONLogHandler(logLevel: level, label: $0) }
        let logger = Logger(label: "sprited")
        // A client that leaves is an error of a write, not the end of the daemon.
        signal(SIGPIPE, SIG_IGN)
        let requestLimit = try settings.rateLimit.flatMap(SpriteDaemon.rateLimit)
        let creationLimit = try settings.createLimit.flatMap(SpriteDaemon.rateLimit)
        let clientTimeout = try settings.clientTimeout.map(seconds)
        let reserve = try MemoryReserve(settings.memoryReserve ?? "5%")
        let lock = try takeDaemonLock(names)
        raiseDescriptorLimit()

        let tokens = TokenStore(folder: names.tokensPath, first: try TokenFile(path: names.tokenPath))
        let parts = try await Parts.assemble(names: names, settings: settings, logger: logger)
        var configuration = APIServerConfiguration(
            host: address.host, port: address.port, version: programVersion, grant: tokens.grant)
        configuration.isTokenGood = tokens.isGood
        try settings.applyAccess(to: &configuration, logger)
        configuration.services = parts.services
        configuration.inside = parts.inside
        configuration.guide = GuestGuide.main
        configuration.journal = parts.journal
        configuration.journalReader = parts.journal
        configuration.metrics = { await metricsText(parts) }
        parts.journal.record(
            JournalRecord(
                "daemon.started", "sprited \(programVersion) started", fields: [("pid", .number(Int64(getpid())))]))
        configuration.states = parts.lifecycle
        configuration.requestLimit = requestLimit
        configuration.creationLimit = creationLimit
        if let clientTimeout { configuration.timing.stalledClient = clientTimeout }
        let memory = MemoryWatch(parts.lifecycle, logger: logger) { reserve.isMissing }
        let scheme = configuration.certificate == nil ? "http" : "https"
        let server = APIServer(
            control: parts.lifecycle, configuration: configuration, logger: logger,
            onListening: { port in
                let url = "\(scheme)://\(address.hostText):\(port)"
                // For commands of this host; without it they have to be told.
                try? writeSmallFile(names.addressPath, url + "\n", flags: O_WRONLY | O_CREAT | O_TRUNC)
                say("listening on \(url)")
            })
        var group = ServiceGroupConfiguration(
            services: [
                .init(service: IdleWatch(parts.lifecycle)), .init(service: memory),
                .init(service: Resumptions(parts.lifecycle)), .init(service: Autostart(parts.lifecycle)),
                .init(service: RuntimesWatch(parts.lifecycle, parts.runtimes, parts.journal, logger)),
                .init(service: TokenWatch(folder: names.tokensPath, journal: parts.journal)), .init(service: server),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        group.maximumGracefulShutdownDuration = .seconds(10)
        if let endpoint = settings.otlpEndpoint {
            let exporter = try JournalExporter(
                parts.journal, endpoint: endpoint, headers: settings.otlpHeaders, logger: logger)
            group.services.insert(.init(service: exporter), at: 0)
        }
        do {
            try await ServiceGroup(configuration: group).run()
        } catch {
            logger.error("the daemon ends", metadata: ["error": "\(error)"])
            throw SpriteError(.internalError, "cannot serve on \(address.hostText):\(address.port)", cause: error)
        }
        parts.journal.record(JournalRecord("daemon.stopped", "sprited stopped"))
        await parts.journal.stop()
        // Sprites that run need the bridge and their control groups; without them nothing of ours stays on the host.
        let isInUse = await parts.lifecycle.hasSandboxes()
        await parts.network.shutdown(removeEverything: !isInUse)
        if !isInUse {
            parts.sandboxes.removeEverything()
            await parts.runtimes.endAll()
            unlink(names.addressPath)
        }
        withExtendedLifetime(lock) {}
    }

    private func merged() throws -> Configuration {
        var settings = try configurationFile.map(Configuration.init(file:)) ?? Configuration()
        settings.listen = listen ?? settings.listen
        settings.poolSize = poolSize ?? settings.poolSize
        settings.runtime = runtime ?? settings.runtime
        settings.guestBinary = guestBinary ?? settings.guestBinary
        settings.subnet = subnet ?? settings.subnet
        settings.defaultBase = defaultBase ?? settings.defaultBase
        settings.runtimesCache = runtimesCache ?? settings.runtimesCache
        settings.runtimesNames = runtimesNames ?? settings.runtimesNames
        settings.logLevel = logLevel ?? settings.logLevel
        settings.insideUsers = insideUsers ?? settings.insideUsers
        settings.rateLimit = rateLimit ?? settings.rateLimit
        settings.createLimit = createLimit ?? settings.createLimit
        settings.clientTimeout = clientTimeout ?? settings.clientTimeout
        settings.memoryReserve = memoryReserve ?? settings.memoryReserve
        settings.maxAwake = maxAwake ?? settings.maxAwake
        if credentialBroker { settings.credentialBroker = "on" }
        access.merge(into: &settings)
        return settings
    }
}

func parseLogLevel(_ text: String) throws -> Logger.Level {
    guard let level = Logger.Level(rawValue: text) else {
        let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        throw SpriteError(.invalidRequest, "cannot use log level '\(text)': there are \(known)")
    }
    return level
}

/// `HOST:PORT`, with IPv6 addresses in brackets.
struct ListenAddress: Sendable, Hashable {
    var host: String
    var port: Int

    init(_ text: String) throws {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count >= 2, let last = parts.last, let number = UInt16(last) else {
            throw SpriteError(.invalidRequest, "cannot listen on '\(text)': write HOST:PORT, such as 127.0.0.1:7780")
        }
        var host = parts.dropLast().joined(separator: ":")
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty else {
            throw SpriteError(.invalidRequest, "cannot listen on '\(text)': the host is missing, such as 127.0.0.1")
        }
        self.host = host
        port = Int(number)
    }

    var hostText: String { host.contains(":") ? "[\(host)]" : host }
}

/// One daemon per data directory.
func takeDaemonLock(_ names: HostNames) throws -> Descriptor {
    let file = try Descriptor.open(names.lockPath, O_RDWR | O_CREAT)
    // A daemon that was killed a moment ago may still be on its way out; nothing else runs yet that this could hold up.
    var triesLeft = 20
    while flock(file.number, LOCK_EX | LOCK_NB) != 0, triesLeft > 0 {
        triesLeft -= 1
        usleep(100_000)
    }
    guard flock(file.number, LOCK_EX | LOCK_NB) == 0 else {
        throw SpriteError(
            .conflict, "cannot serve \(names.dataDirectory): another sprited uses it; stop it or use another --data-dir"
        )
    }
    return file
}

/// A session takes several descriptors; the usual soft limit of 1024 would be a limit of sessions.
private func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 1 << 20)
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}
