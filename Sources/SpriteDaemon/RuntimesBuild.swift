// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import SpriteDomain
import SpriteImage
import SpriteRuntimes
import SpriteStorage
import SpriteSystem
import Sprites

/// Builds a layer inside a throw-away sprite of the daemon that runs: what packages do at installation stays in there.
struct RuntimesBuild: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build a layer from a recipe, inside a throw-away sprite.",
        discussion: "Needs a running daemon. The format of recipes is in docs/runtimes.md.")

    @OptionGroup var pool: PoolOptions
    @Argument(help: "The recipe's file.")
    var recipe: String
    @Option(help: "The base to build on. (default: the recipe's, or the daemon's default)")
    var base: String?
    @Option(help: "The daemon's URL. (default: that of the daemon that serves the data directory)")
    var url: String?
    @Option(help: "Write what the build prints to this file.")
    var log: String?

    func run() async throws {
        let recipe = try Recipe(file: recipe)
        let (catalog, names) = try await pool.open()
        let url = try url ?? names.servedURL(to: "build layer")
        let started = ContinuousClock.now
        let line = RuntimesProgressLine()
        var settings = SpritesClient.Options()
        settings.userAgent = "sprited/\(programVersion)"
        let token = try TokenFile(path: names.tokenPath).token
        let info = try await SpritesClient.with(baseURL: url, token: token, options: settings) { client in
            try await removeLeftovers(client)
            var options = SpriteOptions()
            options.base = base ?? recipe.base?.rawValue
            options.runtimes = "none"
            options.limits.freezeAfterSeconds = 0
            options.limits.stopAfterSeconds = 0
            let begun = Int64(time(nil))
            let sprite = try await client.create("\(Self.prefix)\(UInt32.random(in: .min ... .max))", options)
            do {
                let info = try await build(recipe, sprite, begun, catalog, line)
                try await sprite.destroy()
                return info
            } catch {
                try? await sprite.destroy()
                throw error
            }
        }
        line.end()
        let seconds = (ContinuousClock.now - started).components.seconds
        say("built \(try info.id) in \(seconds) s: \(describe(info))")
        try reportDifferences(info)
    }

    /// The same recipe on the same base should give the same version; where it does not, the mirrors have moved on, or
    /// something in it says when it was made.
    private func reportDifferences(_ info: LayerInfo) throws {
        let store = try LayerStore(dataDirectory: pool.data.names().dataDirectory)
        guard let other = try store.list().first(where: { $0.isOtherVersion(of: info) }) else { return }
        let differences = try store.differences(other.id, info.id)
        complain("the same recipe gave \(try other.id) before; they differ in \(differences.count) entries:")
        for difference in differences.prefix(Self.differencesShown) { complain("  \(difference)") }
        if differences.count > Self.differencesShown {
            complain("  …; `sprited runtimes diff \(try other.id) \(try info.id)` lists all")
        }
    }

    private static let differencesShown = 20

    private static let prefix = "runtimes-build-"

    /// What a build that was killed left; one that still works holds the layers' lock only at its end.
    private func removeLeftovers(_ client: SpritesClient) async throws {
        for try await sprite in client.list(prefix: Self.prefix) {
            guard let info = sprite.info, let created = seconds(info.createdAt), time(nil) - created > 3600 else {
                continue
            }
            try await client.sprite(info.name).destroy()
        }
    }

    private func seconds(_ text: String) -> Int? {
        let whole = String(text.prefix(19)) + "Z"
        return (try? Date(whole, strategy: .iso8601)).map { Int($0.timeIntervalSince1970) }
    }

    private func build(
        _ recipe: Recipe, _ sprite: Sprites.Sprite, _ begun: Int64, _ catalog: BaseCatalog, _ line: RuntimesProgressLine
    ) async throws -> LayerInfo {
        guard let made = sprite.info, let baseText = made.base,
            let id = SpriteID(rawValue: String(made.id.dropFirst(7)))
        else { throw SpriteError(.internalError, "cannot build layer: the daemon did not say what it made") }
        let base = try BaseName(baseText)
        let description = try await catalog.list().first { $0.name == baseText }
        var options = CommandOptions()
        options.user = "root"
        let archive = try recipe.files.map(filesArchive) ?? []
        if !archive.isEmpty {
            line.show(RuntimesProgress(step: "giving it its files"))
            let result = try await sprite.command("cat > /var/tmp/sprite-files.tar", options).run(input: archive)
            guard result.isSuccess else {
                throw SpriteError(.internalError, "cannot build layer: the files do not go in: \(result.stderrText)")
            }
        }
        try await runScript(recipe.buildScript, sprite, options, line)
        let checkpoint = try await sprite.createCheckpoint(comment: "layer \(recipe.name)")
        guard let state = CheckpointID(checkpoint.id) else {
            throw SpriteError(.internalError, "cannot build layer: the daemon did not say what it kept")
        }
        let builder = LayerBuilder(try LayerStore(dataDirectory: pool.data.names().dataDirectory))
        let disks = try await pool.openPool()
        return try builder.pack(
            recipe, base: base, lower: disks.basePath(base), upper: disks.checkpointUpper(id, state), begun: begun,
            baseMade: description?.createdAt ?? 0, archive: archive, progress: { line.show($0) })
    }

    private func runScript(
        _ script: String, _ sprite: Sprites.Sprite, _ options: CommandOptions, _ line: RuntimesProgressLine
    ) async throws {
        let record = try log.map { try Descriptor.open($0, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644) }
        let running = try await sprite.command(["/bin/sh", "-s"], options).start()
        async let written: Void = {
            try await running.write(Array(script.utf8))
            running.closeInput()
        }()
        var tail: [String] = []
        var rest = ""
        for try await chunk in running.output {
            let bytes = chunk.bytes
            if let record { _ = bytes.withUnsafeBytes { write(record.number, $0.baseAddress, $0.count) } }
            rest += String(decoding: bytes, as: UTF8.self)
            var lines = rest.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            rest = String(lines.removeLast().prefix(4096))
            for text in lines {
                if text.hasPrefix("@@ ") { line.show(RuntimesProgress(step: String(text.dropFirst(3)))) }
                tail.append(text)
            }
            if tail.count > 200 { tail.removeFirst(tail.count - 100) }
        }
        // A script that ended early does not read the rest of itself.
        try? await written
        let code = try await running.exitCode()
        guard code == 0 else {
            line.end()
            for text in tail.suffix(20) { complain(text) }
            throw SpriteError(
                .invalidRequest, "cannot build layer: the recipe's commands ended with \(code), see above")
        }
    }

    /// The recipe's files, all owned by root, without times: the same files are the same archive.
    private func filesArchive(_ folder: String) throws -> [UInt8] {
        let path = "/tmp/sprite-files-\(getpid())-\(UInt32.random(in: .min ... .max)).tar"
        defer { unlink(path) }
        try runTool(
            "tar",
            [
                "-c", "-f", path, "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-C",
                folder, ".",
            ])
        return Array(try Data(contentsOf: URL(filePath: path)))
    }
}

extension HostNames {
    /// The URL of the daemon that serves the data directory.
    func servedURL(to purpose: String) throws -> String {
        guard let text = try? readSmallFile(addressPath) else {
            throw SpriteError(
                .unavailable, "cannot \(purpose): no daemon serves \(dataDirectory); start `sprited serve` first")
        }
        return String(text.prefix { $0 != "\n" })
    }
}
