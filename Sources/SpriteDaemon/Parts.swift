// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import SpriteDomain
import SpriteImage
import SpriteJournal
import SpriteLifecycle
import SpriteNetwork
import SpriteRegistry
import SpriteRuntimes
import SpriteSandbox
import SpriteServer
import SpriteServices
import SpriteSessions
import SpriteStorage
import SpriteSystem

/// Every part of the daemon, put together: the only place that knows the concrete ones.
struct Parts: Sendable {
    let lifecycle: Lifecycle
    let network: BridgeNetwork
    let services: ServiceRequests
    let inside: InsideServer
    let sandboxes: OCISandboxDriver
    let pool: BtrfsPool
    let runtimes: RuntimesMounts
    let journal: JournalStore

    /// Opens what lies on the disk, prepares the host and takes over what runs.
    static func assemble(names: HostNames, settings: Configuration, logger: Logger) async throws -> Parts {
        try makeRunDirectory(names.runDirectory)
        let registry = try Registry(path: names.registryPath)
        let pool = try await BtrfsPool.open(
            dataDirectory: names.dataDirectory, runDirectory: names.runDirectory,
            imageBytes: try settings.poolSize.map(byteCount), logger: logger)
        let journal = try JournalStore(
            path: names.journalPath, unwrittenPath: "\(names.runDirectory)/journal-unwritten",
            retention: try settings.retention(), intake: try settings.intake(), logger: logger)
        let network = try BridgeNetwork(
            tag: names.tag, subnet: try settings.subnet.map(parseSubnet), runDirectory: names.runDirectory,
            nameServers: try list(settings.nameServers).map(parseNameServer),
            openNetworks: try list(settings.openNetworks).map(parseSubnet),
            broker: try brokerSettings(settings, registry, journal, logger), book: contactBook(journal, logger),
            logger: logger)
        let sandboxes = try OCISandboxDriver(
            runtime: settings.runtime ?? "crun", tag: names.tag, runDirectory: names.runDirectory,
            guestBinary: try guestBinary(settings.guestBinary),
            extraMounts: { pool.plainDirectories($0) }, logger: logger)
        let sessions = try SessionEngine(runDirectory: names.sessionDirectory, recorder: journal, logger: logger)
        let runDirectory = names.runDirectory
        let supervisor = ServiceSupervisor(
            sessions: sessions, storage: pool, guestFolder: { "\(runDirectory)/guests/\($0)" }, logger: logger)
        let inside = InsideServer(
            folder: { "\(runDirectory)/guests/\($0)" },
            users: try settings.insideUsers.map(parseInsideUsers) ?? .standard,
            firstHostUser: UserMapping.hostFirst, logger: logger)
        let runtimes = RuntimesMounts(
            store: try LayerStore(dataDirectory: names.dataDirectory), runDirectory: names.runDirectory,
            cacheBytes: try settings.runtimesCache.map(byteCount),
            lookup: try settings.runtimesNames.map(namesLookup) ?? .kernel, logger: logger)
        let catalog = BaseCatalog(store: pool, logger: logger)
        let drivers = Drivers(
            registry: registry, storage: pool, trees: pool, sandboxes: sandboxes, network: network,
            sessions: sessions, services: supervisor, inside: inside, journal: journal, closeSocket: { close($0) },
            initSystem: { try await catalog.initSystem($0) }, logger: logger, runtimes: runtimes,
            awake: AwakeLimit(try settings.maxAwake.map(countOrOff) ?? nil))
        let wanted = try settings.defaultBase.map { try BaseName($0) }
        let lifecycle = Lifecycle(drivers: drivers) {
            if let wanted { return wanted }
            guard let newest = try await catalog.list().max(by: { ($0.createdAt ?? 0) < ($1.createdAt ?? 0) }) else {
                throw SpriteError(
                    .conflict, "cannot create sprite: there is no base yet; make one with `sprited base build`")
            }
            return try BaseName(newest.name)
        }
        // Ports of sprites that outlived the last daemon are still there, so none is made ahead with their addresses.
        try await network.prepare()
        // Before it is decided which sprites go on: those whose layer is gone cannot.
        await runtimes.adopt()
        try await lifecycle.recover()
        openMirrors(network, logger)
        let services = ServiceRequests(supervisor, lifecycle)
        return Parts(
            lifecycle: lifecycle, network: network, services: services, inside: inside, sandboxes: sandboxes,
            pool: pool, runtimes: runtimes, journal: journal)
    }
}

/// Searchable, not readable, by everybody: the runtime mounts from it as the root of a sprite.
func makeRunDirectory(_ path: String) throws {
    for folder in ["/run/sprited", path] {
        guard mkdir(folder, 0o711) == 0 || errno == EEXIST else { throw SystemError(errno, "create \(folder)") }
    }
}

/// `any`, or numbers and the names `root` and `sprite`, separated by commas.
private func parseInsideUsers(_ text: String) throws -> InsideUsers {
    if text == "any" { return .any }
    let users = try text.split(separator: ",").map { word -> UInt32 in
        switch word.trimmed {
        case "root": return 0
        case "sprite": return 1000
        case let word:
            guard let number = UInt32(word) else {
                throw SpriteError(
                    .invalidRequest,
                    "cannot use inside users '\(text)': write 'any', or numbers of users, such as 0,1000,33")
            }
            return number
        }
    }
    return .only(Set(users))
}

extension InsideUsers {
    /// Root and the user that commands run as.
    fileprivate static let standard = InsideUsers.only([0, 1000])
}

extension Substring {
    fileprivate var trimmed: Substring { drop { $0 == " " }.prefix { $0 != " " } }
}

/// Lets sprites reach what the host gets its packages through, where that lies in a private network.
///
/// Nobody waits for it: name servers may take seconds, and sprites that need no packages need none of it.
private func openMirrors(_ network: BridgeNetwork, _ logger: Logger) {
    Task {
        do {
            let addresses = try await blocking { HostMirrors.addresses() }
            let opened = try await network.open(addresses.compactMap { IPv4Address($0) })
            guard !opened.isEmpty else { return }
            logger.notice(
                "sprites may use mirrors and proxies of this host in private networks",
                metadata: ["addresses": .array(opened.map { "\($0)" })])
        } catch {
            logger.warning("mirrors in private networks stay closed", metadata: ["error": "\(error)"])
        }
    }
}

/// What is separated by commas.
private func list(_ text: String?) -> [String] {
    (text ?? "").split(separator: ",").map { String($0.filter { !$0.isWhitespace }) }.filter { !$0.isEmpty }
}

private func parseNameServer(_ text: String) throws -> String {
    guard let address = IPv4Address(text), !address.isLoopback else {
        throw SpriteError(
            .invalidRequest,
            "cannot use name server '\(text)': it must be an IPv4 address that is not on the loopback")
    }
    return text
}

/// Nil unless the operator enabled it.
private func brokerSettings(
    _ settings: Configuration, _ registry: Registry, _ journal: any JournalRecorder, _ logger: Logger
) throws -> BrokerSettings? {
    guard ["on", "off", nil].contains(settings.credentialBroker) else {
        throw SpriteError(.invalidRequest, "cannot read credential_broker: write on or off")
    }
    guard settings.credentialBroker == "on" else { return nil }
    return BrokerSettings(
        upstreamCertificates: settings.brokerUpstreamCertificates,
        onUse: { sprite, secret, time in
            // Nobody waits for it: when a secret was last used is told to the minute.
            Task {
                do { try await registry.noteUse(sprite, secret: secret, at: time) } catch {
                    logger.warning("cannot note the use of a secret", metadata: ["error": "\(error)"])
                }
            }
        }, record: { journal.record($0) })
}

/// First contacts and refusals go to the journal; refusals show in the log as well.
private func contactBook(_ journal: any JournalRecorder, _ logger: Logger) -> ContactBook {
    ContactBook(onLimit: { sprite, limit in journal.record(limit.record(sprite)) }) { sprite, contact in
        let record = contact.record(sprite)
        journal.record(record)
        guard !contact.isAllowed else { return }
        logger.notice(
            "\(record.text)", metadata: ["sprite.id": "\(sprite)", "reason": "\(contact.reason?.rawValue ?? "")"])
    }
}

private func parseSubnet(_ text: String) throws -> Subnet {
    guard let subnet = Subnet(text) else {
        throw SpriteError(.invalidRequest, "cannot use subnet '\(text)': write it such as 10.77.0.0/20")
    }
    return subnet
}

/// Finds the program for the inside: as set, or where an installation or a build puts it.
private func guestBinary(_ configured: String?) throws -> String {
    if let configured {
        guard access(configured, R_OK) == 0 else {
            throw SpriteError(.invalidRequest, "cannot use guest binary \(configured): \(errnoText(errno))")
        }
        return configured
    }
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    let path = String(decoding: buffer.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    let folder = path.split(separator: "/").dropLast().map { "/" + $0 }.joined()
    let candidates = [
        "\(folder)/../libexec/sprite-env/sprite-env", "/usr/local/libexec/sprite-env/sprite-env",
        "\(folder)/sprite-env",
    ]
    guard let found = candidates.first(where: { access($0, X_OK) == 0 }) else {
        throw SpriteError(
            .invalidRequest,
            "cannot find the static sprite-env that runs inside sprites; build it and pass --guest-binary PATH "
                + "(looked at \(candidates.joined(separator: ", ")))")
    }
    return found
}
