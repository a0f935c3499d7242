// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Synchronization

/// Moves global options that stand before or between the words of a command behind them.
///
/// `sprite -s demo checkpoint create` becomes `sprite checkpoint create -s demo`, which is what the parser takes.
///
/// - Throws: ``UsageError`` if a word is no command.
func orderedArguments(_ arguments: [String]) throws -> [String] {
    var words: [String] = []
    var moved: [String] = []
    var index = 0
    var command: any ParsableCommand.Type = SpriteCommand.self
    while index < arguments.count {
        let argument = arguments[index]
        switch argument {
        case "-s", "--sprite", "-o", "--org", "--ca":
            moved.append(argument)
            if index + 1 < arguments.count { moved.append(arguments[index + 1]) }
            index += 2
            continue
        case "--debug":
            moved.append(argument)
            index += 1
            continue
        default:
            break
        }
        if argument.hasPrefix("--sprite=") || argument.hasPrefix("--org=") || argument.hasPrefix("--debug=")
            || argument.hasPrefix("--ca=")
        {
            moved.append(argument)
            index += 1
            continue
        }
        let subcommands = command.configuration.subcommands
        if argument.hasPrefix("-") || subcommands.isEmpty { break }
        if words.isEmpty, argument == "help" { break }
        guard let next = subcommands.first(where: { $0.answers(to: argument) }) else {
            // A group with a default command, such as `url`, takes arguments of its own.
            if command.configuration.defaultSubcommand != nil { break }
            let place = (["sprite"] + words).joined(separator: " ")
            throw UsageError("unknown command '\(argument)'; `\(place) --help` lists what there is")
        }
        words.append(argument)
        command = next
        index += 1
    }
    return words + moved + arguments[min(index, arguments.count)...]
}

/// The command that `exec` runs, kept away from the parser, which takes minutes for 20,000 arguments.
enum PassedCommand {
    private static let value = Mutex<[String]>([])
    static var arguments: [String] { value.withLock { $0 } }

    /// Options of `exec` that are followed by a value.
    private static let optionsWithValue: Set<String> = [
        "-s", "--sprite", "-o", "--org", "--ca", "--dir", "--env", "--user", "--check", "--timeout", "--file",
    ]

    /// Cuts the remote command off the end of ordered arguments and keeps it.
    ///
    /// - Returns: What is for the parser; an option it does not know stays in there.
    static func cut(_ arguments: [String]) -> [String] {
        guard let first = arguments.first, first == "exec" || Exec.configuration.aliases.contains(first) else {
            return arguments
        }
        var index = 1
        while index < arguments.count {
            let argument = arguments[index]
            if optionsWithValue.contains(argument) {
                index += 2
            } else if argument == "--" {
                value.withLock { $0 = Array(arguments[(index + 1)...]) }
                return Array(arguments[..<index])
            } else if argument.hasPrefix("-"), argument != "-" {
                index += 1
            } else {
                value.withLock { $0 = Array(arguments[index...]) }
                return Array(arguments[..<index])
            }
        }
        return arguments
    }
}

extension ParsableCommand {
    fileprivate static func answers(to word: String) -> Bool {
        // Without a name of its own a command is called by its type's; ours all have one.
        configuration.commandName == word || configuration.aliases.contains(word)
    }
}
