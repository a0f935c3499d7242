// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

/// `sprite`, with every command below it.
struct SpriteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sprite",
        abstract: "Persistent Linux computers that can be checkpointed, restored and forked.",
        discussion: """
            The sprite a command means comes from -s, or else from the file .sprite in this directory or one above it \
            (see `sprite use`). -s and -o may stand anywhere before the command's own arguments.
            """,
        version: programVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "Sprites",
                subcommands: [
                    Create.self, List.self, Use.self, Info.self, Destroy.self, Fork.self, Stop.self, Restart.self,
                    Upgrade.self, URLGroup.self,
                ]),
            CommandGroup(
                name: "Commands in a sprite",
                subcommands: [Exec.self, Console.self, Attach.self, SessionsGroup.self, Proxy.self, Copy.self]),
            CommandGroup(name: "Network", subcommands: [PolicyGroup.self, SecretsGroup.self]),
            CommandGroup(
                name: "Checkpoints",
                subcommands: [CheckpointGroup.self, Restore.self, Diff.self, Race.self, Bisect.self]),
            CommandGroup(
                name: "What happened", subcommands: [Logs.self, History.self, Timeline.self, TraceCommand.self]),
            CommandGroup(
                name: "Server and settings",
                subcommands: [
                    Login.self, Logout.self, OrganizationGroup.self, AuthGroup.self, ConfigGroup.self, RawAPI.self,
                    ModelContext.self, Completion.self,
                ]),
        ])
}

/// The version `sprite --version` prints.
let programVersion = "0.1.0"

/// Options every command takes.
struct GlobalOptions: ParsableArguments {
    @Option(
        name: [.customShort("s"), .long], help: "The sprite to work with.",
        completion: .shellCommand("sprite list 2>/dev/null"))
    var sprite: String?

    @Option(name: [.customShort("o"), .customLong("org")], help: "The organization, also ALIAS:ORG.")
    var organization: String?

    @Option(
        name: .customLong("ca"),
        help: "A PEM file of authorities to trust instead of the system's, for https. (default: $SPRITES_CA_FILE)")
    var certificateAuthority: String?

    @Flag(name: .long, help: "Print every request to standard error.")
    var debug = false
}
