// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import SpriteDomain
import SpriteRegistry
import SpriteRuntimes

/// `sprited runtimes`: layers of language runtimes between base and disk. Works beside a running daemon.
struct RuntimesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "runtimes", abstract: "Language runtimes that sprites have without being in their base.",
        subcommands: [
            RuntimesBuild.self, RuntimesList.self, RuntimesUse.self, RuntimesPublish.self, RuntimesPull.self,
            RuntimesCheck.self, RuntimesDiff.self, RuntimesRecord.self, RuntimesCollect.self,
            RuntimesFetchAhead.self,
        ])
}

/// What every runtimes command opens.
struct LayerOptions: ParsableArguments {
    @OptionGroup var data: DataOptions

    func store() throws -> LayerStore { try LayerStore(dataDirectory: data.names().dataDirectory) }
}

struct RuntimesList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the layers that are here.")

    @OptionGroup var options: LayerOptions
    @Flag(help: "Print a JSON array.")
    var json = false

    func run() throws {
        let store = try options.store()
        let layers = try store.list()
        let used = Set(try store.choices())
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            return say(String(decoding: try encoder.encode(layers), as: UTF8.self))
        }
        for layer in layers {
            let mark = used.contains(try layer.id) ? "* " : "  "
            say("\(mark)\(try layer.id)  \(describe(layer))")
        }
        if layers.isEmpty { complain("there is no layer yet; make one with `sprited runtimes build RECIPE`") }
    }
}

struct RuntimesUse: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "use", abstract: "Choose the layer that new sprites of its base get.",
        discussion: "Sprites that exist keep the version they have; `sprite upgrade` moves one.")

    @OptionGroup var options: LayerOptions
    @Argument(help: "NAME, NAME@VERSION, or none.")
    var layer: String

    func run() throws {
        let store = try options.store()
        if layer == "none" {
            try store.useNone()
            return say("new sprites get no runtimes")
        }
        let newest = try layer.contains("@") ? store.find(layer) : store.newest(layer)
        try store.use(newest.id)
        say("new sprites of base \(newest.base) get runtimes \(try newest.id)")
    }
}

struct RuntimesPublish: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "publish", abstract: "Copy a layer to a folder or to object storage.",
        discussion: """
            Only objects that are not there yet are copied. Credentials come from AWS_ACCESS_KEY_ID and \
            AWS_SECRET_ACCESS_KEY.
            """)

    @OptionGroup var options: LayerOptions
    @Argument(help: "NAME or NAME@VERSION.")
    var layer: String
    @Option(help: "An absolute path, or s3://BUCKET/PREFIX.")
    var to: String
    @Option(help: "The S3 server, such as http://HOST:PORT. (default: Amazon's)")
    var endpoint: String?

    func run() throws {
        let line = RuntimesProgressLine()
        let result = try options.store().publish(layer, to: StoreAddress(to, endpoint: endpoint)) { line.show($0) }
        line.end()
        say(
            "published \(try result.layer.id): \(result.transfer.copiedObjects) objects copied, "
                + "\(result.layer.objects - result.transfer.copiedObjects) were there")
    }
}

struct RuntimesPull: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull", abstract: "Make a published layer known here; its content comes when it is read.")

    @OptionGroup var options: LayerOptions
    @Argument(help: "NAME or NAME@VERSION.")
    var layer: String
    @Option(help: "An absolute path, or s3://BUCKET/PREFIX.")
    var from: String
    @Option(help: "The S3 server, such as http://HOST:PORT. (default: Amazon's)")
    var endpoint: String?

    func run() throws {
        let info = try options.store().pull(layer, from: StoreAddress(from, endpoint: endpoint))
        say("pulled \(try info.id): \(describe(info))")
    }
}

struct RuntimesCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Read every object of a layer and report what is missing or damaged.")

    @OptionGroup var options: LayerOptions
    @Argument(help: "NAME or NAME@VERSION.")
    var layer: String

    func run() throws {
        let store = try options.store()
        let info = try store.find(layer)
        let damages = try store.damages(info.id)
        for damage in damages { complain(damage) }
        guard damages.isEmpty else { throw ExitCode(1) }
        say("\(try info.id): \(info.objects) objects are whole")
    }
}

struct RuntimesDiff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "List what differs between two versions: paths, and what of each.")

    @OptionGroup var options: LayerOptions
    @Argument(help: "NAME or NAME@VERSION.")
    var old: String
    @Argument(help: "NAME or NAME@VERSION.")
    var new: String

    func run() throws {
        let store = try options.store()
        for difference in try store.differences(store.find(old).id, store.find(new).id) { say("\(difference)") }
    }
}

struct RuntimesCollect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc", abstract: "Remove versions that nobody uses, and objects that no version needs.",
        discussion: """
            Here, the newest version of each name, those in use for new sprites, and those of any sprite stay. At a store \
            that layers were published to, the newest ones stay: who pulled an older one can read only what is cached.
            """)

    @OptionGroup var options: LayerOptions
    @Option(help: "Collect at this store instead: an absolute path, or s3://BUCKET/PREFIX.")
    var at: String?
    @Option(help: "The S3 server, such as http://HOST:PORT. (default: Amazon's)")
    var endpoint: String?
    @Option(help: "With --at: how many versions of each name stay.")
    var keep = 3

    func run() throws {
        if let at {
            let result = try options.store().collect(at: StoreAddress(at, endpoint: endpoint), keep: keep)
            for version in result.versions { say("removed \(version)") }
            return say("\(result.objects) objects removed at \(at)")
        }
        let registry = try Registry(path: options.data.names().registryPath)
        let result = try options.store().collect { try registry.runtimesInUse() }
        for version in result.versions { say("removed \(version)") }
        say("\(result.objects) objects removed, \(result.bytes / 1_000_000) MB")
    }
}

func describe(_ layer: LayerInfo) -> String {
    let sizes = "\(layer.sizeBytes / 1_000_000) MB in \(layer.entries) entries"
    let stored = "\(layer.storedBytes / 1_000_000) MB in \(layer.objects) objects"
    let metadata = "\(layer.metadataBytes / 1_000) kB of metadata"
    let place = layer.store.map { ", at \($0)" } ?? ""
    return "for \(layer.base): \(sizes), stored as \(stored), \(metadata)\(place)"
}

/// One line that is written over on a terminal; elsewhere a line for each step and each ten per cent.
final class RuntimesProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var last = ""

    func show(_ progress: RuntimesProgress) {
        var text = progress.step
        var mark = text
        if progress.totalBytes > 0 {
            let percent = Int(progress.doneBytes * 100 / progress.totalBytes)
            let bar = String(repeating: "#", count: percent / 5) + String(repeating: ".", count: 20 - percent / 5)
            text += " [\(bar)] \(progress.doneBytes / 1_000_000) of \(progress.totalBytes / 1_000_000) MB, "
            text += "\(progress.doneFiles) of \(progress.totalFiles) files"
            mark += "\(percent / 10)"
        }
        if isTerminal {
            put("\r\u{1B}[K\(text.prefix(110))", STDERR_FILENO)
        } else if mark != last {
            complain(text)
        }
        last = mark
    }

    func end() { if isTerminal { put("\r\u{1B}[K", STDERR_FILENO) } }
}
