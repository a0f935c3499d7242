// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Attach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach", abstract: "Connect to a command that runs in a sprite.",
        discussion: "Without an id to the only one there is, or the only one with a terminal. Ctrl+\\ leaves it again.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The session's id, from `sprite sessions list`.")
    var id: String?

    func run() async throws {
        let sprite = try Context(global).sprite()
        let session = if let id { id } else { try await Self.onlySession(sprite) }
        let running = try await sprite.attach(session)
        if running.isTerminal, let size = RawTerminal.size() { running.resize(size) }
        try await SessionRunner(sprite: sprite.name, command: running).run()
    }

    private static func onlySession(_ sprite: Sprite) async throws -> String {
        let sessions = try await sprite.sessions()
        let terminals = sessions.filter(\.tty)
        if sessions.count == 1 { return sessions[0].id }
        if terminals.count == 1 { return terminals[0].id }
        guard !sessions.isEmpty else {
            throw CommandFailure("nothing runs in \(sprite.name); `sprite console -s \(sprite.name)` starts a shell")
        }
        throw CommandFailure("\(sessions.count) sessions run in \(sprite.name); give an id of `sprite sessions list`")
    }
}
