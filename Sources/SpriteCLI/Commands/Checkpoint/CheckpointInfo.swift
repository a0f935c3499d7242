// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointInfo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "info", abstract: "Show a checkpoint.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its id, such as v1.")
    var id: String

    @Flag(help: "Print the checkpoint as JSON.")
    var json = false

    func run() async throws {
        let checkpoint = try await Context(global).sprite().checkpoint(id)
        if json { return try printJSON(checkpoint) }
        func time(_ milliseconds: Double?) -> String {
            milliseconds.map { Duration.milliseconds($0).shortText } ?? "-"
        }
        try Table.fields([
            ("id", checkpoint.id), ("created", checkpoint.createTime), ("comment", checkpoint.comment ?? "-"),
            ("from", checkpoint.sourceID ?? "-"), ("history", checkpoint.history?.joined(separator: " ") ?? "-"),
            ("automatic", checkpoint.isAutomatic == true ? "yes" : "no"), ("reason", checkpoint.reason ?? "-"),
            ("pinned", checkpoint.isPinned == true ? "yes" : "no"),
            ("flush", time(checkpoint.flushMilliseconds)), ("snapshot", time(checkpoint.snapshotMilliseconds)),
        ])
    }
}
