// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct URLGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "url", abstract: "Show a sprite's URL, or who may use it.", subcommands: [Show.self, Update.self],
        defaultSubcommand: Show.self)

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "Print a sprite's URL.")

        @OptionGroup var global: GlobalOptions

        @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
        var name: String?

        @Flag(help: "Print URL and access as JSON.")
        var json = false

        private struct Output: Encodable {
            var url: String
            var auth: String
        }

        func run() async throws {
            let info = try await Context(global).sprite(name).fetchInfo()
            if json { return try printJSON(Output(url: info.url, auth: info.urlSettings.auth ?? "sprite")) }
            try printLine(info.url)
        }
    }

    struct Update: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "update", abstract: "Set who may use the URL.")

        @OptionGroup var global: GlobalOptions

        @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
        var name: String?

        @Option(
            name: [.customShort("a"), .customLong("auth")], help: "`sprite` (with a token) or `public` (everybody).",
            completion: .list(["sprite", "public"]))
        var access: Access

        enum Access: String, ExpressibleByArgument {
            case sprite
            case everybody = "public"
            case standard = "default"
        }

        func run() async throws {
            try await Self.set(access, of: try Context(global).sprite(name))
        }

        static func set(_ access: Access, of sprite: Sprite) async throws {
            var update = Sprite.Update()
            update.urlAuthentication = access == .standard ? "sprite" : access.rawValue
            let info = try await sprite.update(update)
            printNote("\(info.url) is now open to \(info.urlSettings.auth == "public" ? "everybody" : "its tokens")")
        }
    }
}
