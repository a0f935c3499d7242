// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import SpriteDomain
import SpriteImage
import SpriteRegistry
import SpriteStorage
import Synchronization

/// `sprited base`: root filesystems that sprites begin with. Works beside a running daemon.
struct BaseCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "base", abstract: "Root filesystems that sprites begin with.",
        subcommands: [BaseBuild.self, BaseImport.self, BaseList.self, BaseRemove.self])
}

/// What every base command opens.
struct PoolOptions: ParsableArguments {
    @OptionGroup var data: DataOptions
    @Option(name: .customLong("pool-size"), help: "Size of the pool's image where one has to be made, such as 50G.")
    var poolSize: String?

    func open() async throws -> (catalog: BaseCatalog, names: HostNames) {
        LoggingSystem.bootstrap { JSONLogHandler(logLevel: .warning, label: $0) }
        return (BaseCatalog(store: try await openPool(), logger: Logger(label: "sprited")), try data.names())
    }

    func openPool() async throws -> BtrfsPool {
        let names = try data.names()
        let logger = Logger(label: "sprited")
        try makeRunDirectory(names.runDirectory)
        return try await BtrfsPool.open(
            dataDirectory: names.dataDirectory, runDirectory: names.runDirectory,
            imageBytes: try poolSize.map(byteCount), logger: logger)
    }
}

struct BaseBuild: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build a base with mmdebstrap.",
        discussion: "Without options: the distribution and suite of this host, from its own package sources.")

    @OptionGroup var pool: PoolOptions
    @Option(help: "Name of the base. (default: DISTRO-SUITE)")
    var name: String?
    @Option(help: "debian or ubuntu.")
    var distro: String?
    @Option(help: "Such as bookworm or noble.")
    var suite: String?
    @Option(help: "URL of the package mirror.")
    var mirror: String?
    @Option(name: .customLong("package"), help: "A further package; may be repeated.")
    var packages: [String] = []
    @Option(name: .customLong("init"), help: "What runs as PID 1: sprite, systemd, openrc or s6. (default: sprite)")
    var initSystem: String?

    func run() async throws {
        let initSystem = try initSystem.map(InitSystem.init(text:)) ?? .sprite
        let (catalog, names) = try await pool.open()
        let line = ProgressLine()
        let info = try await catalog.build(
            BuildOptions(
                name: try name.map { try BaseName($0) }, distro: distro, suite: suite, mirror: mirror,
                packages: packages, initSystem: initSystem),
            progress: { line.show($0) })
        line.end()
        try await removeUnused(info, catalog, names)
        say("built \(info.name): \(describe(info))")
    }
}

struct BaseImport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Import a base from an image, or a new version of a base.",
        discussion: "Takes an OCI image layout (a folder or a tar), an archive of `docker save`, or the tar of a root.")

    @OptionGroup var pool: PoolOptions
    @Option(help: "Name of the base.")
    var name: String
    @Option(help: "oci, docker or tar. (default: found out from the content)")
    var kind: String?
    @Option(name: .customLong("init"), help: "What runs as PID 1: sprite, systemd, openrc or s6. (default: sprite)")
    var initSystem: String?
    @Argument(help: "File or folder of the image.")
    var path: String

    func run() async throws {
        let initSystem = try initSystem.map(InitSystem.init(text:)) ?? .sprite
        let imageKind = try kind.map { text in
            guard let kind = ImageKind(rawValue: text) else {
                throw SpriteError(
                    .invalidRequest, "cannot import image: there is no kind '\(text)'; use oci, docker or tar")
            }
            return kind
        }
        let (catalog, names) = try await pool.open()
        let line = ProgressLine()
        let info = try await catalog.importImage(
            path, as: try BaseName(name), kind: imageKind, initSystem: initSystem,
            progress: { line.show($0) })
        line.end()
        try await removeUnused(info, catalog, names)
        say("imported \(info.name): \(describe(info))")
    }
}

struct BaseList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the bases.")

    @OptionGroup var pool: PoolOptions
    @Flag(help: "Print a JSON array.")
    var json = false

    func run() async throws {
        let bases = try await pool.open().catalog.list()
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            say(String(decoding: try encoder.encode(bases), as: UTF8.self))
            return
        }
        let width = bases.map(\.name.count).max() ?? 0
        for base in bases {
            say(base.name + String(repeating: " ", count: width - base.name.count) + "  " + describe(base))
        }
        if bases.isEmpty { complain("there is no base yet; make one with `sprited base build`") }
    }
}

struct BaseRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Remove a base, or one version, that no sprite uses.")

    @OptionGroup var pool: PoolOptions
    @Argument(help: "Name of the base, for every version, or such as debian@2 for one.")
    var name: String

    func run() async throws {
        let (catalog, names) = try await pool.open()
        let inUse = try await Registry(path: names.registryPath).basesInUse()
        try await catalog.remove(try BaseName(name), inUse: inUse)
    }
}

/// Older versions of what was just made, as far as neither a sprite nor a checkpoint needs them.
private func removeUnused(_ made: BaseInfo, _ catalog: BaseCatalog, _ names: HostNames) async throws {
    let inUse = try await Registry(path: names.registryPath).basesInUse()
    for old in try await catalog.removeUnused(try BaseName(made.name), inUse: inUse) {
        complain("removed \(old): nothing uses it, and \(made.name) takes its place")
    }
}

private func describe(_ base: BaseInfo) -> String {
    var words: [String] = []
    if let distro = base.distro { words.append([distro, base.version].compactMap { $0 }.joined(separator: " ")) }
    if let packages = base.packages { words.append("\(packages) packages") }
    if let bytes = base.sizeBytes { words.append("\(bytes / 1_000_000) MB") }
    if let initSystem = base.initSystem { words.append("init \(initSystem.rawValue)") }
    if let source = base.source { words.append("from \(source)") }
    return words.joined(separator: ", ")
}

/// One line that is written over on a terminal; elsewhere a line for each ten per cent. On standard error.
private final class ProgressLine: Sendable {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let shown = Mutex(-1)

    func show(_ progress: BaseProgress) {
        let percent = progress.fraction.map { Int($0 * 100) }
        let text =
            percent.map { "\($0 < 10 ? "  " : $0 < 100 ? " " : "")\($0)%  \(progress.step)" }
            ?? "      \(progress.step)"
        if progress.isNotice {
            put((isTerminal ? "\r\u{1B}[K" : "") + "note: \(progress.step)\n", STDERR_FILENO)
        } else if isTerminal {
            put("\r\u{1B}[K\(text.prefix(100))", STDERR_FILENO)
        } else if let percent {
            let isNew = shown.withLock { shown in
                guard percent / 10 > shown else { return false }
                shown = percent / 10
                return true
            }
            if isNew { complain(text) }
        }
    }

    func end() { if isTerminal { put("\r\u{1B}[K", STDERR_FILENO) } }
}
