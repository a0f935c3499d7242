// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import SpriteDomain
import SpriteRuntimes
import SpriteSystem
import Sprites

/// `sprited runtimes profile`: runs commands in a throw-away sprite and writes down what of its layer each reads.
struct RuntimesRecord: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile", abstract: "Record which files of a layer commands read, for the recipe's 'profile'.",
        discussion: """
            Each line of COMMANDS is run by a shell as the user sprite in a fresh folder; empty lines and lines that begin \
            with '#' are left out. What one line reads is packed together by the next build, and fetched together when \
            it begins to be used. Drops what the kernel keeps of files on this host before each line.
            """)

    @OptionGroup var data: DataOptions
    @Argument(help: "NAME or NAME@VERSION.")
    var layer: String
    @Option(help: "File with a command in each line.")
    var commands: String
    @Option(help: "Write the profile to this file.")
    var to: String
    @Option(help: "The daemon's URL. (default: that of the daemon that serves the data directory)")
    var url: String?

    func run() async throws {
        let names = try data.names()
        let store = try LayerStore(dataDirectory: names.dataDirectory)
        let info = try store.find(layer)
        let id = try info.id
        let lines = try readSmallFile(commands, bytesMax: 1 << 20).split(separator: "\n").map(String.init).filter {
            !$0.hasPrefix("#")
        }
        guard !lines.isEmpty else { throw SpriteError(.invalidRequest, "cannot record \(id): \(commands) is empty") }
        let url = try url ?? names.servedURL(to: "record \(id)")
        let token = try TokenFile(path: names.tokenPath).token
        let profile = try await SpritesClient.with(baseURL: url, token: token) { client in
            var options = SpriteOptions()
            options.base = info.base
            options.runtimes = "\(id)"
            options.limits.freezeAfterSeconds = 0
            options.limits.stopAfterSeconds = 0
            let sprite = try await client.create("runtimes-profile-\(UInt32.random(in: .min ... .max))", options)
            do {
                let recorder = try ProfileRecorder(id, store: store, runDirectory: names.runDirectory)
                let profile = try await record(lines, sprite, recorder)
                try await sprite.destroy()
                return profile
            } catch {
                try? await sprite.destroy()
                throw error
            }
        }
        try writeSmallFile(to, profile.text, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        say("\(profile.groups.count) uses of \(id) written to \(to)")
    }

    private func record(
        _ lines: [String], _ sprite: Sprites.Sprite, _ recorder: ProfileRecorder
    ) async throws -> RuntimesProfile {
        var groups: [[RuntimesProfile.File]] = []
        // What every command reads is a use of its own, and is told from the rest by that.
        for (number, line) in (["true"] + lines).enumerated() {
            complain("@@ \(line)")
            let script = "mkdir -p /tmp/use-\(number) && cd /tmp/use-\(number) && \(line)"
            groups.append(
                try await recorder.record {
                    let result = try await sprite.command(["/bin/sh", "-c", script]).run()
                    guard result.isSuccess else {
                        throw SpriteError(
                            .invalidRequest,
                            "cannot record '\(line)': it ended with \(result.exitCode): \(result.stderrText.suffix(500))"
                        )
                    }
                })
        }
        return RuntimesProfile(groups: groups)
    }
}

/// What the daemon starts for each mounted layer that has a profile.
struct RuntimesFetchAhead: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fetch-ahead", abstract: "Fetch what a use of a mounted layer reads as soon as it begins.",
        shouldDisplay: false)

    @Option var metadata: String
    @Option var mount: String
    @Option var layout: String
    @Argument var profile: String

    func run() throws {
        Prefetcher.endWithDaemon()
        try Prefetcher(profile: profile, metadata: metadata, mount: mount, layout: layout)?.listen()
        // The last objects are still on their way; the daemon ends this process.
        while true { pause() }
    }
}
