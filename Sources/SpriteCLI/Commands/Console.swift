// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Console: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console", abstract: "Open a shell in a sprite.",
        discussion: "Ctrl+\\ leaves it running; `sprite attach` comes back to it.", aliases: ["c"])

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    @Option(help: "User name or number; otherwise sprite.")
    var user: String?

    @Flag(help: "Do not forward ports that are opened in it to this machine.")
    var noPortForward = false

    func run() async throws {
        try await Self.open(try Context(global).sprite(name), user: user, forwardsPorts: !noPortForward)
    }

    /// The login shell of the user inside; /bin/sh is what every base has.
    private static let shell = #"""
        for s in "$SHELL" /bin/bash /bin/sh; do [ -x "$s" ] && exec "$s" -l; done
        """#

    static func open(_ sprite: Sprite, user: String? = nil, forwardsPorts: Bool = true) async throws -> Never {
        var options = CommandOptions()
        options.user = user
        addTerminal(to: &options)
        let running = try await sprite.command(["/bin/sh", "-c", shell], options).start()
        if forwardsPorts {
            let forwarding = PortForwarding(sprite, isTerminal: true)
            running.onPort { forwarding.changed($0) }
        }
        try await SessionRunner(sprite: sprite.name, command: running).run()
    }

    /// A terminal of our size and kind.
    static func addTerminal(to options: inout CommandOptions) {
        options.terminal = RawTerminal.size() ?? TerminalSize()
        // A kind the sprite has no description of would leave programs without colours or cursor keys.
        let known = ["xterm", "screen", "tmux", "linux", "vt1", "vt2", "rxvt", "dumb"]
        if isTerminal(1), let kind = environmentVariable("TERM"), known.contains(where: kind.hasPrefix),
            options.environment["TERM"] == nil
        {
            options.environment["TERM"] = kind
        }
        if let colours = environmentVariable("COLORTERM"), options.environment["COLORTERM"] == nil {
            options.environment["COLORTERM"] = colours
        }
    }
}
