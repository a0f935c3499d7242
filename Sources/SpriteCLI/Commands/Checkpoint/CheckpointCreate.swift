// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointCreate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Keep the state of the disk at this instant.",
        discussion: "Prints the checkpoint's id. What runs goes on.")

    @OptionGroup var global: GlobalOptions

    @Option(name: [.customShort("m"), .long], help: "What it is for.")
    var comment: String?

    @Flag(help: "Print id and times as JSON.")
    var json = false

    private struct Output: Encodable {
        var id: String
        var flush_ms: Double?
        var snapshot_ms: Double?
        var elapsed_ms: Double
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        let (created, duration) = try await timed {
            try await sprite.createCheckpoint(comment: comment) { event in
                if event.type == "warning", let text = event.data { printNote("sprite: \(Table.printable(text))") }
            }
        }
        if json {
            return try printJSON(
                Output(
                    id: created.id, flush_ms: created.flush?.milliseconds,
                    snapshot_ms: created.snapshot?.milliseconds, elapsed_ms: duration.milliseconds))
        }
        try printLine(created.id)
        if let flush = created.flush, let snapshot = created.snapshot {
            let parts = "(flush \(flush.shortText), snapshot \(snapshot.shortText))"
            printNote("created in \((flush + snapshot).shortText) \(parts)")
        } else {
            printNote("created in \(duration.shortText)")
        }
    }
}
