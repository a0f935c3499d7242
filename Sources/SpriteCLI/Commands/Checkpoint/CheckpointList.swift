// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List checkpoints, newest first.", aliases: ["ls"])

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Show those made automatically as well.")
    var includeAuto = false

    @Option(help: "Only checkpoints that descend from this one.")
    var history: String?

    @Flag(help: "Print the checkpoints as JSON.")
    var json = false

    func run() async throws {
        let sprite = try Context(global).sprite()
        let checkpoints = try await sprite.checkpoints(includeAutomatic: includeAuto, descendingFrom: history)
        if json { return try printJSON(checkpoints) }
        var table = Table("ID", "CREATED", "FROM", "COMMENT")
        for checkpoint in checkpoints {
            let pin = checkpoint.isPinned == true ? " (pinned)" : ""
            table.add(
                checkpoint.id + pin, ago(checkpoint.createTime), checkpoint.sourceID ?? "-", checkpoint.comment ?? "")
        }
        try table.print()
    }
}
