// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Upgrade: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade", abstract: "Move a sprite to the current version of its language runtimes.",
        discussion: "It takes effect when the sprite starts the next time; its own disk stays as it is.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite, unless -s or .sprite says it.")
    var name: String?

    @Option(help: "The layer to move to: none, NAME or NAME@VERSION. (default: the version in use of what it has)")
    var runtimes: String?

    func run() async throws {
        let sprite = try Context(global).sprite(name)
        try await sprite.upgrade(runtimes: runtimes)
        let info = try await sprite.fetchInfo()
        try printLine(info.runtimes.map { "\(sprite.name) has runtimes \($0)" } ?? "\(sprite.name) has no runtimes")
    }
}
