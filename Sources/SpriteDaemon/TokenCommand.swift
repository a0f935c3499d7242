// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

/// `sprited token`: prints the bearer token, making it if there is none.
struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Print the bearer token of the data directory.")

    @OptionGroup var data: DataOptions

    func run() throws { say(try TokenFile(path: data.names().tokenPath).token) }
}
