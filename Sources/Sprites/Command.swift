// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
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
    /// Whether it goes on without its client, as commands with a terminal do.
    public var isDetachable = false
    /// How long ``Command/run(input:outputBytesMax:)`` lets it run; then it gets SIGTERM.
    public var timeout: Duration?
    /// How long after SIGTERM it gets SIGKILL.
    public var killAfter: Duration = .seconds(5)

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

    /// Itself.
    ///
    /// - Throws: ``SpritesError`` with `.commandFailed` unless the exit code is 0.
    public func checked() throws -> CommandResult {
        if isSuccess { return self }
        let last = stderrText.split(separator: "\n").last.map { ": \($0)" } ?? ""
        var error = SpritesError(.commandFailed, "the command ended with exit code \(exitCode)\(last)")
        error.result = self
        throw error
    }
}

extension Command {
    /// Runs it to its end and collects what it prints.
    ///
    /// A code other than 0 is a result, not an error. Cancelling the task ends the connection, and so the command.
    ///
    /// - Parameters:
    ///   - input: Its standard input; it has none, and reads the end at once, if this is empty.
    ///   - outputBytesMax: Collected output beyond this throws `.outputLimit` and ends the connection.
    /// - Throws: ``SpritesError``; never a result when the connection was lost. `.timeout`, with the output so far, if it
    ///   reached its time limit and was ended.
    public func run(input: [UInt8] = [], outputBytesMax: Int = 64 << 20) async throws -> CommandResult {
        while true {
            let running = try await begin(takesInput: !input.isEmpty)
            defer { running.disconnect() }
            do {
                return try await collect(running, input, outputBytesMax)
            } catch is CommandNotSent {
                // The server closed the connection while it was kept. What was not sent cannot have run.
            }
        }
    }

    private func collect(
        _ running: RunningCommand, _ input: [UInt8], _ outputBytesMax: Int
    ) async throws -> CommandResult {
        let isOverdue = NIOLockedValueBox(false)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            if !input.isEmpty {
                group.addTask {
                    do {
                        try await running.write(input)
                        running.closeInput()
                    } catch let error as SpritesError where [.commandEnded, .connectionLost].contains(error.code) {
                        // It ended without reading all of it, as `head` does; a lost connection is told below.
                    }
                }
            }
            if let timeout = options.timeout {
                group.addTask {
                    do {
                        try await Task.sleep(for: timeout)
                        isOverdue.withLockedValue { $0 = true }
                        try? running.signal("TERM")
                        try await Task.sleep(for: options.killAfter)
                        try? running.signal("KILL")
                        try await Task.sleep(for: .seconds(5))
                        // If even that brought no end, the connection is of no use.
                        running.disconnect()
                    } catch is CancellationError {
                        // It ended in time.
                    }
                }
            }
            var result = CommandResult(exitCode: 0, stdout: [], stderr: [])
            do {
                for try await chunk in running.output {
                    guard result.stdout.count + result.stderr.count + chunk.count <= outputBytesMax else {
                        try? running.signal("KILL")
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
            } catch  where isOverdue.withLockedValue({ $0 }) && (error as? SpritesError)?.code != .outputLimit {
                throw overdue(result, running.sessionID, mayBeRunning: true)
            } catch {
                if Task.isCancelled { try? running.signal("KILL") }
                throw running.named(error)
            }
            if isOverdue.withLockedValue({ $0 }) { throw overdue(result, running.sessionID, mayBeRunning: false) }
            return result
        }
    }

    private func overdue(_ result: CommandResult, _ sessionID: String, mayBeRunning: Bool) -> SpritesError {
        let limit = options.timeout.map { " of \($0)" } ?? ""
        var error = SpritesError(.timeout, "the command ran longer than its limit\(limit) and was ended")
        error.result = result
        error.sessionID = sessionID
        error.mayBeRunning = mayBeRunning
        return error
    }

    /// Runs it and returns what it prints on standard output, as text.
    ///
    /// - Throws: ``SpritesError``: `.commandFailed`, with the output, for another exit code than 0.
    public func output(input: [UInt8] = []) async throws -> String {
        try await run(input: input).checked().stdoutText
    }

    /// Starts it and returns a handle to talk to it.
    public func start() async throws -> RunningCommand {
        while true {
            do {
                return try await begin(takesInput: true).greeted()
            } catch is CommandNotSent {
                // As above.
            }
        }
    }

    private func begin(takesInput: Bool) async throws -> RunningCommand {
        guard !arguments.isEmpty else {
            throw SpritesError(.invalidRequest, "cannot run a command: it has no arguments")
        }
        var query = API.ExecQuery(command: arguments)
        query.environment = options.environment.map { "\($0)=\($1)" }
        query.directory = options.directory
        query.user = options.user
        query.takesInput = takesInput
        query.detachable = options.isDetachable
        query.maxRunAfterDisconnect = options.maxRunAfterDisconnect
        if let terminal = options.terminal {
            query.tty = true
            query.rows = terminal.rows
            query.columns = terminal.columns
        }
        return try await RunningCommand.start(query, in: sprite)
    }
}
