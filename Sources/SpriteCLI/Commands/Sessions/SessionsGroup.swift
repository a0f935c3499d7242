// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

struct SessionsGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sessions", abstract: "Commands that run in a sprite.",
        subcommands: [SessionsList.self, Attach.self, SessionsKill.self], aliases: ["s", "session"])
}
