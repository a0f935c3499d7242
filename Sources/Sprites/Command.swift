// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI

/// A command to run in a sprite, not started yet.
public struct Command: Sendable {
    let sprite: Sprite
    /// The arguments, the program's name first.
    public let arguments: [String]
    /// How to run it.
    public var options: CommandOptions
}

/// How to run a command.
public struct CommandOptions: Sendable {
    /// Working directory; nil means the user's home.
    public var directory: String?
    /// Variables, added to the sprite's own.
    public var environment: [String: String] = [:]
    /// User name or number; nil means `sprite`.
    public var user: String?
    /// Gives the command a terminal of this size instead of pipes.
    public var terminal: TerminalSize?
    /// How long it may go on when the connection ends; nil means the server's default, zero means for ever.
    public var maxRunAfterDisconnect: Duration?

    /// Makes the defaults.
    public init() {}
}

/// The size of a terminal in characters.
public struct TerminalSize: Sendable, Hashable {
    /// Lines.
    public var rows: Int
    /// Characters in a line.
    public var columns: Int

    /// Makes a size.
    public init(rows: Int = 24, columns: Int = 80) {
        self.rows = rows
        self.columns = columns
    }
}

extension Sprite {
    /// A command line for `/bin/sh`.
    public func command(_ shellCommand: String, _ options: CommandOptions = CommandOptions()) -> Command {
        Command(sprite: self, arguments: ["/bin/sh", "-c", shellCommand], options: options)
    }

    /// A program and its arguments, which no shell sees.
    public func command(_ arguments: [String], _ options: CommandOptions = CommandOptions()) -> Command {
        Command(sprite: self, arguments: arguments, options: options)
    }
}

/// What a command printed, and how it ended.
public struct CommandResult: Sendable, Hashable {
    /// The exit code; 128 + n when signal n ended it.
    public var exitCode: Int32
    /// Standard output; everything of a terminal.
    public var stdout: [UInt8]
    /// Standard error.
    public var stderr: [UInt8]

    /// Standard output as text.
    public var stdoutText: String { String(decoding: stdout, as: UTF8.self) }
    /// Standard error as text.
    public var stderrText: String { String(decoding: stderr, as: UTF8.self) }
    /// Whether the exit code is 0.
    public var isSuccess: Bool { exitCode == 0 }
}

extension Command {
    /// Runs it to its end and collects what it prints.
    ///
    /// A code other than 0 is a result, not an error. Cancelling the task ends the connection, and so the command.
    ///
    /// - Parameters:
    ///   - input: Its standard input.
    ///   - outputBytesMax: Collected output beyond this throws `.outputLimit` and ends the connection.
    /// - Throws: ``SpritesError``; never a result when the connection was lost.
    public func run(input: [UInt8] = [], outputBytesMax: Int = 64 << 20) async throws -> CommandResult {
        let running = try await start()
        defer { running.disconnect() }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            if input.isEmpty {
                running.closeInput()
            } else {
                group.addTask {
                    do {
                        try await running.write(input)
                        running.closeInput()
                    } catch let error as SpritesError where error.code == .commandEnded {
                        // It ended without reading all of it, as `head` does.
                    }
                }
            }
            var result = CommandResult(exitCode: 0, stdout: [], stderr: [])
            for try await chunk in running.output {
                guard result.stdout.count + result.stderr.count + chunk.count <= outputBytesMax else {
                    throw SpritesError(.outputLimit, "the command printed more than \(outputBytesMax) bytes")
                }
                chunk.withUnsafeBytes { bytes in
                    switch chunk.stream {
                    case .stdout: result.stdout.append(contentsOf: bytes)
                    case .stderr: result.stderr.append(contentsOf: bytes)
                    }
                }
            }
            result.exitCode = try await running.exitCode()
            group.cancelAll()
            return result
        }
    }

    /// Starts it and returns a handle to talk to it.
    public func start() async throws -> RunningCommand {
        guard !arguments.isEmpty else {
            throw SpritesError(.invalidRequest, "cannot run a command: it has no arguments")
        }
        var query = API.ExecQuery(command: arguments)
        query.environment = options.environment.map { "\($0)=\($1)" }
        query.directory = options.directory
        query.user = options.user
        query.takesInput = true
        query.maxRunAfterDisconnect = options.maxRunAfterDisconnect
        if let terminal = options.terminal {
            query.tty = true
            query.rows = terminal.rows
            query.columns = terminal.columns
        }
        return try await RunningCommand.open(
            sprite.path + "/exec?" + query.query.encoded, on: sprite.client, isTerminal: options.terminal != nil,
            isAttach: false)
    }
}
