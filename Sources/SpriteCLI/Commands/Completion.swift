// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

struct Completion: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "completion", abstract: "Print a completion script for a shell.",
        discussion: "For bash: source <(sprite completion bash)")

    @Argument(help: "bash, zsh or fish.", completion: .list(["bash", "zsh", "fish"]))
    var shell: Shell

    enum Shell: String, ExpressibleByArgument { case bash, zsh, fish }

    func run() async throws {
        let kind: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        try printLine(SpriteCommand.completionScript(for: kind))
    }
}
