// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Exec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in a sprite.",
        usage: "sprite exec [-s NAME] [--dir DIR] [--tty] [--env NAME=VALUE,...] [--user USER] -- COMMAND...",
        discussion: """
            Standard input, output and error are the command's own, byte for byte, and its exit code becomes that of \
            sprite: 126 and 127 if it cannot be run or found, 128 + n if signal n ended it. SIGINT, SIGTERM, SIGHUP \
            and SIGQUIT go to the command.
            """,
        aliases: ["x"])

    @OptionGroup var global: GlobalOptions

    @Option(help: "Working directory; otherwise the user's home.")
    var dir: String?

    @Flag(help: "Give the command a terminal.")
    var tty = false

    @Option(name: .customLong("env"), help: "Variables, as NAME=VALUE,NAME2=VALUE2; may be repeated.")
    var environment: [String] = []

    @Option(help: "User name or number; otherwise sprite.")
    var user: String?

    @Flag(help: "Do not forward ports that the command opens to this machine.")
    var noPortForward = false

    @Flag(
        name: .customLong("http-post"),
        help: "Accepted for compatibility; the command runs over a WebSocket all the same, with the same result.")
    var httpPost = false

    func run() async throws {
        let arguments = PassedCommand.arguments
        guard !arguments.isEmpty else { throw UsageError("no command is given; use sprite exec -- COMMAND...") }
        let sprite = try Context(global).sprite()
        var options = CommandOptions()
        options.directory = dir
        options.user = user
        options.environment = try parseEnvironment(environment)
        if tty { Console.addTerminal(to: &options) }
        let running = try await sprite.command(arguments, options).start()
        if !noPortForward {
            let forwarding = PortForwarding(sprite, isTerminal: tty)
            running.onPort { forwarding.changed($0) }
        }
        try await SessionRunner(sprite: sprite.name, command: running).run()
    }
}
