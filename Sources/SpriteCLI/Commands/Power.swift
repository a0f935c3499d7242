// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Put a sprite to sleep now.",
        discussion: """
            What runs is asked to end, and killed after a few seconds. The disk stays, and the next use starts the sprite \
            again with its services. Sprites go to sleep by themselves when nobody uses them.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    func run() async throws {
        let sprite = try Context(global).sprite(name)
        let (_, duration) = try await timed { try await sprite.stop() }
        printNote("stopped \(sprite.name) in \(duration.shortText)")
    }
}

struct Restart: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restart", abstract: "Stop a sprite and start it again.",
        discussion: "What runs is asked to end, and killed after a few seconds. Services start again; the disk stays.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    func run() async throws {
        let sprite = try Context(global).sprite(name)
        let (_, duration) = try await timed { try await sprite.restart() }
        printNote("restarted \(sprite.name) in \(duration.shortText)")
    }
}
