// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Exec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in a sprite.",
        usage: """
            sprite exec [-s NAME] [--dir DIR] [--tty] [--env NAME=VALUE,...] [--user USER] [--file SOURCE:PATH] \
            -- COMMAND...
            sprite exec [-s NAME] --try [--check COMMAND] | --dry-run [...] -- COMMAND...
            """,
        discussion: """
            Standard input, output and error are the command's own, byte for byte, and its exit code becomes that of \
            sprite: 126 and 127 if it cannot be run or found, 128 + n if signal n ended it. SIGINT, SIGTERM, SIGHUP \
            and SIGQUIT go to the command. With --try the disk is rolled back unless the command, and then --check, \
            end with 0; with --dry-run the command runs in a fork that is dropped. Both show what changed, take no \
            input, and end the command when they are interrupted.
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

    @Flag(name: .customLong("try"), help: "Roll the disk back if the command fails.")
    var isTry = false

    @Option(help: "With --try or --dry-run: a shell command that decides whether it succeeded.")
    var check: String?

    @Flag(help: "Run it in a fork, show what it changes, and drop the fork.")
    var dryRun = false

    @Option(help: "With --try or --dry-run: seconds that the command may take.")
    var timeout: Double?

    @Flag(help: "With --try or --dry-run: print what happens as JSON, one object a line.")
    var json = false

    @Option(
        name: .customLong("file"),
        help: "Copy SOURCE of this machine to PATH in the sprite first, as SOURCE:PATH; may be repeated.")
    var files: [String] = []

    @Flag(help: "Do not forward ports that the command opens to this machine.")
    var noPortForward = false

    @Flag(
        name: .customLong("http-post"),
        help: "Accepted for compatibility; the command runs over a WebSocket all the same, with the same result.")
    var httpPost = false

    func validate() throws {
        guard isTry || dryRun || (check == nil && timeout == nil && !json) else {
            throw ValidationError("--check, --timeout and --json need --try or --dry-run")
        }
        guard !tty || !(isTry || dryRun) else { throw ValidationError("--try and --dry-run have no terminal") }
    }

    /// The same command as one that can be undone.
    private func attempt(_ arguments: [String], _ sprite: Sprite) async throws -> Never {
        var request = API.AttemptRequest(command: API.CommandLine(arguments))
        request.env = try parseEnvironment(environment)
        request.dir = dir
        request.user = user
        request.check = check.map { API.CommandLine(["sh", "-c", $0]) }
        request.dryRun = dryRun
        request.timeoutSeconds = timeout
        try await AttemptRunner(sprite: sprite, request: request, isJSON: json).run()
    }

    func run() async throws {
        let arguments = PassedCommand.arguments
        guard !arguments.isEmpty else { throw UsageError("no command is given; use sprite exec -- COMMAND...") }
        let sprite = try Context(global).sprite()
        for file in files { try await Self.upload(file, to: sprite, directory: dir) }
        if isTry || dryRun { try await attempt(arguments, sprite) }
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

    /// Takes `SOURCE:PATH`; a relative PATH begins where the command does.
    private static func upload(_ text: String, to sprite: Sprite, directory: String?) async throws {
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex, text.index(after: colon) != text.endIndex
        else { throw UsageError("invalid --file '\(text)'; use SOURCE:PATH") }
        var target = String(text[text.index(after: colon)...])
        if let directory, !target.hasPrefix("/") { target = "\(directory)/\(target)" }
        try await FileCopy(sprite).upload(String(text[..<colon]), to: target)
    }
}
