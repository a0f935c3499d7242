// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import NIOCore
package import SpriteDomain
import SpriteSystem
import Synchronization

/// A session as its clients see it.
///
/// Reading goes from the file to the client without the event thread; everything else is posted to it.
package final class Session: ExecSession {
    /// Names the ``LiveSession`` on the event thread; unique within the process.
    let token: UInt64
    /// The files of stdout and stderr, or of the terminal. They stay readable after they are unlinked.
    let files: [Descriptor]
    let state: Mutex<SessionState>
    private let thread: EventThread
    package let sprite: SpriteID
    /// Where files go that only the journal still needs; nil: nothing is recorded.
    let asideFolder: String?

    init(
        token: UInt64, sprite: SpriteID, info: SessionInfo, files: [Descriptor], thread: EventThread,
        asideFolder: String?
    ) {
        self.token = token
        self.sprite = sprite
        self.asideFolder = asideFolder
        self.files = files
        self.thread = thread
        state = Mutex(SessionState(info: info))
    }

    package var info: SessionInfo {
        state.withLock { state in
            var info = state.info
            info.attachedClients = state.readers.count
            return info
        }
    }

    package func attach() -> any SessionReader {
        // Without a point there is nothing to refuse.
        do { return try attach(at: nil, mayResume: false) } catch { fatalError("\(error)") }
    }

    package func attach(at point: ResumePoint?, mayResume: Bool) throws -> any SessionReader {
        let (id, offsets) = try state.withLock { state throws(SpriteError) in try state.attach(at: point) }
        tell { $0.attached() }
        return Reader(session: self, id: id, offsets: offsets, mayResume: mayResume)
    }

    package func writeInput(_ bytes: ByteBuffer) async throws {
        while true {
            let waiter = Waiter<Void>()
            let (mustWait, isNews) = state.withLock { state -> (Bool, Bool) in
                guard !state.input.isFull else {
                    state.input.waiters[ObjectIdentifier(waiter)] = waiter
                    return (true, false)
                }
                state.info.lastActivityAt = .now()
                return (false, state.input.append(bytes))
            }
            if isNews { tell { $0.input?.flush() } }
            guard mustWait else { return }
            defer { state.withLock { $0.input.waiters[ObjectIdentifier(waiter)] = nil } }
            try await waiter.wait()
        }
    }

    /// Without effect on a terminal, whose end of input is a character that its programs define.
    package func closeInput() {
        let isNews = state.withLock { $0.info.isTerminal ? false : $0.input.end() }
        if isNews { tell { $0.input?.flush() } }
    }

    package func signal(_ number: Int32) { tell { $0.signal(number) } }

    package func waitForExit() async throws -> ExitStatus {
        let waiter = Waiter<ExitStatus>()
        let ending = state.withLock { state -> ExitStatus? in
            if state.ending == nil { state.exitWaiters[ObjectIdentifier(waiter)] = waiter }
            return state.ending
        }
        if let ending { return ending }
        defer { state.withLock { $0.exitWaiters[ObjectIdentifier(waiter)] = nil } }
        return try await waiter.wait()
    }

    func tell(_ job: @escaping @Sendable (LiveSession) -> Void) {
        thread.post { [token] core in core.live[token].map(job) }
    }
}
