// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Output of one session, in files, as the journal reads it from a thread of its own.
package protocol RecordedOutput: AnyObject, Sendable {
    var sprite: SpriteID { get }
    var info: SessionInfo { get }
    /// What there is now. Also asks to be told of the next change.
    func look() -> OutputExtent
    /// Reads bytes of a stream; zero if they are gone.
    func read(_ stream: Int, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int
    /// Everything before is recorded for good, and nobody has to keep it for the journal.
    func setRecorded(_ stream: Int, upTo offset: Int64)
    /// All of it is recorded: the files may go.
    func release()
    /// Whether they are gone: no later daemon will come upon them.
    var isGone: Bool { get }
}

/// How far the output of a session has come.
package struct OutputExtent: Sendable {
    /// The bytes that are kept, of each stream; a terminal has one.
    package var streams: [Range<Int64>]
    /// Set when the command has ended and all its output is there.
    package var ending: ExitStatus?
    package var endedAt: Timestamp?
    package init(streams: [Range<Int64>], ending: ExitStatus?, endedAt: Timestamp?) {
        self.streams = streams
        self.ending = ending
        self.endedAt = endedAt
    }
}

/// How a command was started. The environment is left out: it may hold secrets.
package struct CommandStart: Sendable {
    package var arguments: [String]
    package var user: String?
    /// The request that started it.
    package var trace: TraceID?
    package init(arguments: [String], user: String?, trace: TraceID?) {
        self.arguments = arguments
        self.user = user
        self.trace = trace
    }
}

/// Reads sessions' output and records it. Called on the thread that collects it: every call returns at once.
package protocol OutputRecorder: Sendable {
    /// - Parameter start: Nil for a session taken over from a daemon before this one.
    func opened(_ output: any RecordedOutput, start: CommandStart?)
    /// There is more, or it has ended. Not called again before somebody looked.
    func changed(_ output: any RecordedOutput)
}
