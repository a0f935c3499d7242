// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

/// `config update`; with `--url-auth` what older scripts use for `url update --auth`.
struct ConfigGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Change a sprite.",
        subcommands: [Update.self])

    struct Update: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "update", abstract: "Change limits, or who may use the URL.",
            discussion: "What is not given stays as it is; 0 takes a limit away.")

        @OptionGroup var global: GlobalOptions

        @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
        var name: String?

        @Option(help: "`sprite` (with a token) or `public` (everybody).", completion: .list(["sprite", "public"]))
        var urlAuth: URLGroup.Update.Access?

        @Option(help: "Memory limit, such as 512M or 2G; a bare number means MiB.")
        var memory: Mebibytes?

        @Option(help: "CPU limit, such as 0.5 or 2.")
        var cpus: Double?

        @Option(help: "Limit of processes and threads.")
        var pids: Int?

        @Option(help: "Limit of its disk with all checkpoints, such as 512M or 10G.")
        var disk: Mebibytes?

        @Option(help: "Megabits a second that it may send, and receive.")
        var bandwidth: Int?

        @Option(help: "Connections outwards at once.")
        var connections: Int?

        @Flag(inversion: .prefixedNo, help: "Start it together with the daemon, as after a reboot of the host.")
        var autostart: Bool?

        func run() async throws {
            let sprite = try Context(global).sprite(name)
            var limits = SpriteLimits(memoryMiB: memory?.count, cpus: cpus, pids: pids)
            limits.diskMiB = disk?.count
            limits.bandwidthMbit = bandwidth
            limits.connections = connections
            limits.startsWithHost = autostart
            guard urlAuth != nil || limits != SpriteLimits() else {
                throw UsageError("nothing to change; see sprite config update --help")
            }
            if limits != SpriteLimits() {
                var update = Sprite.Update()
                update.limits = limits
                try await sprite.update(update)
            }
            if let urlAuth { try await URLGroup.Update.set(urlAuth, of: sprite) }
        }
    }
}
