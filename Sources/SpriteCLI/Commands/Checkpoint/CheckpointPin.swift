// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointPin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin", abstract: "Keep a checkpoint until it is unpinned, whatever its age.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its id, such as auto-3.")
    var id: String

    func run() async throws {
        let sprite = try Context(global).sprite()
        try await sprite.pinCheckpoint(id)
        printNote("pinned \(id) of \(sprite.name)")
    }
}

struct CheckpointUnpin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unpin", abstract: "Let a checkpoint be removed again.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its id, such as auto-3.")
    var id: String

    func run() async throws {
        let sprite = try Context(global).sprite()
        try await sprite.pinCheckpoint(id, false)
        printNote("unpinned \(id) of \(sprite.name)")
    }
}
