// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

/// The command line cannot mean anything; exit code 2.
struct UsageError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// Something failed here, not at the server; exit code 1.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// What is printed and returned for an error.
struct Ending {
    var message: String?
    var isForStandardOutput = false
    var code: Int32

    /// - Parameter source: Where the token came from, to be named when it is refused.
    init(_ error: any Error, tokenSource: String?) {
        switch error {
        case let error as UsageError:
            self.init(message: "sprite: \(error)", code: 2)
        case let error as CommandFailure:
            self.init(message: "sprite: \(error)", code: 1)
        case let error as SpritesError:
            let hint = Self.hint(error, tokenSource)
            self.init(message: "sprite: \(error.message)" + (hint.map { "; \($0)" } ?? ""), code: 1)
        case let error as ExitCode:
            self.init(message: nil, code: error.rawValue)
        case is CancellationError:
            self.init(message: "sprite: interrupted", code: 130)
        default:
            self.init(parserError: error)
        }
    }

    private init(message: String?, code: Int32) {
        self.message = message
        self.code = code
    }

    /// Errors of the argument parser, help and version requests among them.
    private init(parserError error: any Error) {
        let status = SpriteCommand.exitCode(for: error)
        var text = SpriteCommand.fullMessage(for: error)
        if status == .success {
            message = text
            isForStandardOutput = true
            code = 0
        } else if status == .validationFailure {
            if text.hasPrefix("Error: ") { text = "sprite: " + text.dropFirst("Error: ".count) }
            message = text
            code = 2
        } else {
            message = "sprite: \(error)"
            code = 1
        }
    }

    private static func hint(_ error: SpritesError, _ tokenSource: String?) -> String? {
        switch error.code {
        case .unauthorized:
            "the token came from \(tokenSource ?? "nowhere"); `sprite login` stores another"
        case .cannotConnect:
            "is sprited running there? SPRITES_API_URL or `sprite login URL` chooses another server"
        case .connectionLost:
            "the command may go on: `sprite sessions list` shows it"
        case .limitReached:
            error.retryAfter.map { "try again in \($0.components.seconds) s" }
        case .internalError:
            error.requestID.map { "the server's log has it under request \($0)" }
        default:
            nil
        }
    }
}
