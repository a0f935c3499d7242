// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc

/// The program `sprite`.
package enum SpriteProgram {
    /// Runs the command line and ends the process.
    package static func main() async -> Never {
        // A reader that goes away shows as EPIPE, which ends the program quietly.
        signal(SIGPIPE, SIG_IGN)
        do {
            let arguments = PassedCommand.cut(try orderedArguments(Array(CommandLine.arguments.dropFirst())))
            var command = try SpriteCommand.parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            finish(0)
        } catch let error as OutputClosed {
            finish(error.code)
        } catch {
            let ending = Ending(error, tokenSource: TokenSource.used)
            if let message = ending.message {
                _ = writeAll(ending.isForStandardOutput ? 1 : 2, message.hasSuffix("\n") ? message : message + "\n")
            }
            finish(ending.code)
        }
    }

    /// Ends the process with the terminal as it was found.
    static func finish(_ code: Int32) -> Never {
        RawTerminal.restore()
        exit(code)
    }
}
