// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct CheckpointPolicy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Show or set when checkpoints are made automatically.",
        usage: "sprite checkpoint policy [-s NAME] [--off | [--before-exec] [--every MINUTES]]",
        discussion: """
            What is given replaces the policy. Nothing is made while nothing has changed. Of these checkpoints all of \
            the last hour are kept, then one an hour, and after a day one a day for a month; pinned ones stay.
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Make none.")
    var off = false

    @Flag(help: "One before each command.")
    var beforeExec = false

    @Option(help: "One every so many minutes, while the sprite is used.")
    var every: Double?

    @Flag(help: "Print the policy as JSON.")
    var json = false

    func validate() throws {
        guard !off || (!beforeExec && every == nil) else { throw ValidationError("--off goes alone") }
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        if off || beforeExec || every != nil {
            var policy = API.CheckpointsPolicy()
            policy.beforeExec = beforeExec
            policy.everyMinutes = every ?? 0
            try await sprite.setCheckpointsPolicy(policy)
        }
        let policy = try await sprite.checkpointsPolicy()
        if json { return try printJSON(policy) }
        let minutes = policy.everyMinutes ?? 0
        try Table.fields([
            ("before each command", policy.beforeExec == true ? "yes" : "no"),
            ("every", minutes > 0 ? "\(minutes) minutes of use" : "-"),
        ])
    }
}
