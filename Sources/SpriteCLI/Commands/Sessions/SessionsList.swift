// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct SessionsList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List what runs.", aliases: ["ls"])

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Print the sessions as JSON.")
    var json = false

    func run() async throws {
        let sprite = try Context(global).sprite()
        let sessions = try await sprite.sessions()
        if json { return try printJSON(sessions) }
        guard !sessions.isEmpty else { return printNote("nothing runs in \(sprite.name)") }
        var table = Table("ID", "STARTED", "TERMINAL", "DIRECTORY", "COMMAND")
        for session in sessions {
            table.add(
                session.id, ago(session.created), session.tty ? "yes" : "no", session.workdir, session.command)
        }
        try table.print()
    }
}
