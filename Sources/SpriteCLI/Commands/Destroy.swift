// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Destroy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "destroy", abstract: "Delete a sprite with all its checkpoints, for ever.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    @Flag(help: "Do not ask.")
    var force = false

    func run() async throws {
        let sprite = try Context(global).sprite(name)
        if !force {
            guard isTerminal(0) else {
                throw UsageError("not destroying \(sprite.name) without asking; give --force")
            }
            let count = try await sprite.checkpoints(includeAutomatic: true).count
            guard confirm("Destroy sprite \(sprite.name) and its \(count) checkpoints for ever?") else {
                throw CommandFailure("nothing was destroyed")
            }
        }
        try await sprite.destroy()
        printNote("destroyed \(sprite.name)")
    }
}
