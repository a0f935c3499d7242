// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain

/// Commands that models have run, with what they printed, until they are old.
actor CommandRuns {
    /// Each keeps a megabyte at most.
    private static let countMax = 64
    private var runs: [(id: String, sprite: SpriteName, run: CommandRun)] = []

    func add(_ sprite: SpriteName, _ session: any ExecSession) throws -> (id: String, run: CommandRun) {
        if runs.count >= CommandRuns.countMax {
            guard let old = runs.firstIndex(where: { $0.run.hasEnded }) else {
                throw SpriteError(
                    .limitReached, "\(runs.count) commands run already, started by models; end one with exec_kill")
            }
            runs.remove(at: old)
        }
        let run = CommandRun(session)
        let id = String(UInt64.random(in: (1 << 60)...(.max)), radix: 36)
        runs.append((id, sprite, run))
        return (id, run)
    }

    func run(_ id: String, of sprite: SpriteName) throws -> CommandRun {
        guard let found = runs.first(where: { $0.id == id && $0.sprite == sprite }) else {
            throw SpriteError(.notFound, "there is no command '\(id.prefix(40))' in this sprite, or it is too old")
        }
        return found.run
    }
}

/// One command: what it printed last, and how it ended.
///
/// `@unchecked`: everything that changes is behind the lock of the actor that reads the session.
final class CommandRun: Sendable {
    /// Beyond this, the oldest output is forgotten; the cursor tells that it was.
    static let keptBytesMax = 1 << 20

    struct State {
        var bytes: [UInt8] = []
        /// Of the first byte that is kept.
        var start = 0
        var status: ExitStatus?
        var isOver = false
    }

    let session: any ExecSession
    private let state = Locked(State())

    init(_ session: any ExecSession) {
        self.session = session
        let reader = session.attach()
        let state = state
        // Ends with the command; what waits for it looks at the state.
        Task {
            defer {
                reader.detach()
                state.with { $0.isOver = true }
            }
            while let event = try? await reader.next() {
                switch event {
                case .output(_, let piece):
                    state.with { state in
                        state.bytes += piece.readableBytesView
                        let extra = state.bytes.count - CommandRun.keptBytesMax
                        if extra > 0 {
                            state.bytes.removeFirst(extra)
                            state.start += extra
                        }
                    }
                case .exited(let status): state.with { $0.status = status }
                }
            }
        }
    }

    var hasEnded: Bool { state.with { $0.isOver } }
    var printed: Int { state.with { $0.start + $0.bytes.count } }

    func output(from cursor: Int, limit: Int) -> (
        bytes: [UInt8], skipped: Int, next: Int, isOver: Bool, status: ExitStatus?
    ) {
        state.with { state in
            let from = max(cursor, state.start)
            let end = min(from + limit, state.start + state.bytes.count)
            let bytes = from < end ? Array(state.bytes[(from - state.start)..<(end - state.start)]) : []
            return (bytes, from - min(cursor, from), max(from, end), state.isOver, state.status)
        }
    }

    /// Waits until it has ended or the time is over; tells how much was printed, once a second.
    func wait(for time: Duration, _ progress: @Sendable (String) async -> Void) async throws {
        let deadline = ContinuousClock.now + time
        var pause = Duration.milliseconds(2)
        var told = ContinuousClock.now
        while !hasEnded, ContinuousClock.now < deadline {
            try await Task.sleep(for: min(pause, deadline - ContinuousClock.now))
            pause = min(pause * 2, .milliseconds(50))
            if ContinuousClock.now - told > .seconds(1) {
                told = .now
                await progress("running, \(printed) bytes printed")
            }
        }
    }
}
