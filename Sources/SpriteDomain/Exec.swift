// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import NIOCore

/// A command to run in a sprite.
package struct ExecRequest: Sendable {
    /// The arguments, `argv[0]` included; never empty.
    package var arguments: [String]
    /// The executable; nil means `arguments[0]`. Without a slash it is looked up in the command's own PATH.
    package var path: String?
    /// Laid over the sprite's default environment.
    package var environment: [(name: String, value: String)]
    /// Working directory; nil means the user's home.
    package var directory: String?
    /// User name or numeric id; nil means `sprite`.
    package var user: String?
    /// The size of the terminal to give it; nil means pipes.
    package var terminal: TerminalSize?
    /// False: standard input is at its end from the start.
    package var takesInput: Bool
    /// How long the command may go on without a client; nil means for ever.
    package var maxRunAfterDisconnect: Duration?
    /// Set for the daemon's own commands (`service:web`, `files`): they are no sessions a client can see.
    package var tag: String?

    package init(
        arguments: [String], path: String? = nil, environment: [(name: String, value: String)] = [],
        directory: String? = nil, user: String? = nil, terminal: TerminalSize? = nil, takesInput: Bool = false,
        maxRunAfterDisconnect: Duration? = .seconds(10)
    ) {
        self.arguments = arguments
        self.path = path
        self.environment = environment
        self.directory = directory
        self.user = user
        self.terminal = terminal
        self.takesInput = takesInput
        self.maxRunAfterDisconnect = maxRunAfterDisconnect
    }
}

package struct TerminalSize: Sendable, Hashable {
    package var rows: UInt16
    package var columns: UInt16
    package init(rows: UInt16, columns: UInt16) {
        self.rows = rows
        self.columns = columns
    }
}

/// How a command ended.
package enum ExitStatus: Sendable, Hashable {
    case exited(UInt8)
    case signaled(UInt8)
    /// The sandbox went away (stopped, restored, destroyed, crashed) before the command ended by itself.
    case lost

    /// As a shell reports it: 128 + n for signal n. A lost command counts as killed by SIGKILL.
    package var code: UInt8 {
        switch self {
        case .exited(let code): code
        case .signaled(let signal): 128 &+ signal
        case .lost: 137
        }
    }
}

package struct SessionInfo: Sendable, Hashable {
    /// Decimal digits; unique within one run of the sprite.
    package var id: String
    /// Resolved path and arguments, joined with spaces.
    package var command: String
    package var directory: String
    package var isTerminal: Bool
    package var terminalSize: TerminalSize?
    package var createdAt: Timestamp
    package var lastActivityAt: Timestamp?
    /// Clients that are attached now; while there is one the sprite stays awake.
    package var attachedClients = 0
    /// The command's first process as the sprite numbers it, by its own account; zero if it is not known.
    package var processID: Int32 = 0
    /// What the daemon itself runs it for; nil for what clients started.
    package var tag: String?
    package init(
        id: String, command: String, directory: String, isTerminal: Bool, terminalSize: TerminalSize?,
        createdAt: Timestamp, lastActivityAt: Timestamp? = nil
    ) {
        self.id = id
        self.command = command
        self.directory = directory
        self.isTerminal = isTerminal
        self.terminalSize = terminalSize
        self.createdAt = createdAt
        self.lastActivityAt = lastActivityAt
    }
}

extension SessionInfo {
    /// Tells this session from every other one of its id: ids begin again when the sprite's sandbox does.
    package var instance: String { "\(id).\(createdAt.nanoseconds)" }
}

/// How far a client had come whose connection was lost.
package struct ResumePoint: Sendable, Hashable {
    /// ``SessionInfo/instance``; nil: any.
    package var instance: String?
    /// The next byte of the output, counted from the command's start; nil: the first that is kept.
    package var stdout: Int64?
    /// The same for standard error; a terminal has none.
    package var stderr: Int64?
    package init(instance: String? = nil, stdout: Int64? = nil, stderr: Int64? = nil) {
        self.instance = instance
        self.stdout = stdout
        self.stderr = stderr
    }
}

package enum OutputStream: UInt8, Sendable, Hashable { case stdout = 1, stderr = 2 }

package enum SessionEvent: Sendable {
    /// Bytes of one stream, in order, at most 256 KiB. A terminal has only `stdout`.
    case output(OutputStream, ByteBuffer)
    /// The last event: all output was delivered before it.
    case exited(ExitStatus)
}

/// A client was too far behind the others of its session, for whom the command goes on.
package struct TooSlow: Error {
    package init() {}
}

/// One attached client of a session, pulled by exactly one task.
///
/// The producer is held back once the fastest of its readers is `Limits.streamWindowBytesMax` behind. A reader that is
/// `Limits.readerLagBytesMax` behind is let go: `next` throws ``TooSlow``.
package protocol SessionReader: AnyObject, Sendable {
    /// The first byte of each stream that it gives, counted from the command's start.
    var offsets: [Int64] { get }
    /// Waits for the next event; nil after `.exited`. Cancelling the task throws `CancellationError`.
    func next() async throws -> SessionEvent?
    /// The size of this client's terminal. That of the newest client applies, and when it leaves that of the one
    /// before; ignored without a terminal.
    func resize(_ size: TerminalSize)
    /// The client went away. Idempotent. The last detach starts the session's `maxRunAfterDisconnect`.
    func detach()
    /// The client's connection was lost, or nobody knows whether it has everything: detaches, but what it needs to
    /// go on is kept for some seconds, and so is the exit status. ``detach()`` later says that it has everything.
    func lose()
}

/// One command that runs, or has just ended, in a sprite.
package protocol ExecSession: AnyObject, Sendable {
    var info: SessionInfo { get }
    /// Attaches a client: kept output first, then live, nothing missing and nothing twice.
    func attach() -> any SessionReader
    /// - Parameters:
    ///   - point: Where to go on; ``SpriteError/Code/gone`` if those bytes are not kept. Nil: as ``attach()``.
    ///   - mayResume: The session is over only once the reader is detached, not when it has given the exit status.
    func attach(at point: ResumePoint?, mayResume: Bool) throws -> any SessionReader
    /// Queues bytes for standard input; suspends while the queue is over `Limits.stdinQueueBytesMax`.
    func writeInput(_ bytes: ByteBuffer) async throws
    /// Ends standard input after what is queued. Idempotent; harmless after the end or without input.
    func closeInput()
    /// Signals the command's process group; with a terminal the foreground group. Harmless after the end.
    func signal(_ number: Int32)
    /// Waits until the command has ended.
    func waitForExit() async throws -> ExitStatus
}
