// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Fork: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fork", abstract: "Make a new sprite with a copy of another's disk.",
        usage: """
            sprite fork SOURCE NEW [--from CHECKPOINT] [--keep-identity]
            sprite fork -s SOURCE NEW [--from CHECKPOINT] [--keep-identity]
            """,
        discussion: """
            The fork gets a machine-id and ssh host keys of its own where the source has them, and stale pid and lock \
            files are removed.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite to copy, unless -s or .sprite says it, and the new one's name.")
    var names: [String]

    @Option(help: "The checkpoint to copy; without it the state of now.")
    var from: String?

    @Flag(help: "Leave machine-id, host keys, pid and lock files as they are.")
    var keepIdentity = false

    @Flag(help: "Print the new sprite as JSON.")
    var json = false

    func validate() throws {
        guard (1...2).contains(names.count) else { throw ValidationError("give a source and a new name") }
    }

    func run() async throws {
        let context = try Context(global)
        let source = try context.sprite(names.count == 2 ? names[0] : nil)
        let (fork, duration) = try await timed {
            try await source.fork(to: names[names.count - 1], checkpoint: from, keepsIdentity: keepIdentity)
        }
        if json {
            if let info = fork.info { try printJSON(info) }
            return
        }
        try printLine(fork.name)
        for path in fork.info?.identity?.renewed ?? [] { printNote("renewed \(Table.printable(path))") }
        for path in fork.info?.identity?.removed ?? [] { printNote("removed \(Table.printable(path))") }
        printNote("forked from \(source.name)\(from.map { " \($0)" } ?? "") in \(duration.shortText)")
    }
}
