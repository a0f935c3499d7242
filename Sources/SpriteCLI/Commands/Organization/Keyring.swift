// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

/// Other programs that share the file keep tokens in a keyring; this one never does.
struct KeyringGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keyring", abstract: "Where tokens are kept.", subcommands: [Enable.self, Disable.self])

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "enable", abstract: "Not supported: tokens are kept in a file.")

        @OptionGroup var global: GlobalOptions

        func run() async throws {
            let path = try Context(global).file.path
            throw CommandFailure("there is no keyring for sprite on this system; tokens stay in \(path), mode 0600")
        }
    }

    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "disable", abstract: "Keep tokens in the file; so they are anyway.")

        @OptionGroup var global: GlobalOptions

        func run() async throws {
            var context = try Context(global)
            context.file.disableKeyring()
            try context.file.save()
            printNote("tokens are kept in \(context.file.path), mode 0600")
        }
    }
}
