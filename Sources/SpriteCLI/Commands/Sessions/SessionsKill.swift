// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct SessionsKill: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill", abstract: "Signal a command and wait for its end.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The session's id, from `sprite sessions list`.")
    var id: String

    @Option(help: "The signal, such as TERM, INT, HUP or KILL.")
    var signal = "TERM"

    @Option(help: "Seconds until it is killed the hard way; 0 does not wait.")
    var timeout = 10

    func run() async throws {
        guard let number = API.SignalName.number(signal), (0...86_400).contains(timeout) else {
            throw UsageError("unknown signal '\(signal)'; use a name such as TERM")
        }
        try await Context(global).sprite().kill(
            id, signal: API.SignalName.name(number), timeout: .seconds(timeout))
    }
}
