// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

/// `config update --url-auth`, which older scripts use for `url update --auth`.
struct ConfigGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Change a sprite; `url update` is the newer command.",
        subcommands: [Update.self])

    struct Update: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "update", abstract: "Set who may use the URL.")

        @OptionGroup var global: GlobalOptions

        @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
        var name: String?

        @Option(help: "`sprite` (with a token) or `public` (everybody).", completion: .list(["sprite", "public"]))
        var urlAuth: URLGroup.Update.Access

        func run() async throws {
            let sprite = try Context(global).sprite(name)
            try await URLGroup.Update.set(urlAuth, of: sprite)
        }
    }
}
