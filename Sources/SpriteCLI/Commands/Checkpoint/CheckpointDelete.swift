// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointDelete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete a checkpoint, for ever.", aliases: ["rm"])

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its id, such as v1; several may be given.")
    var ids: [String]

    func run() async throws {
        let sprite = try Context(global).sprite()
        for id in ids {
            try await sprite.deleteCheckpoint(id)
            printNote("deleted \(id) of \(sprite.name)")
        }
    }
}
