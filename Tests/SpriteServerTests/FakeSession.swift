// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import SpriteDomain

/// A command that exists only here; `argv[0]` chooses what it does.
///
/// | command             | does                                             |
/// |---------------------|--------------------------------------------------|
/// | `say OUT ERR CODE`  | writes both, ends with the code                  |
/// | `cat`               | copies input to output until its end             |
/// | `zeros N`           | writes N zero bytes                              |
/// | `wait`              | runs until a signal; says the signal's number    |
/// | `deaf`              | runs until a signal and takes no input           |
/// | `env`               | writes what it was asked, then ends              |
final class FakeSession: ExecSession {
    private struct State {
        var events: [SessionEvent] = []
        var waiters: [CheckedContinuation<Void, Never>] = []
        var status: ExitStatus?
        var sizes: [TerminalSize] = []
        var attached = 0
    }

    let info: SessionInfo
    private let command: String
    private let state = NIOLockedValueBox(State())

    init(id: String, request: ExecRequest) {
        command = request.arguments[0]
        info = SessionInfo(
            id: id, command: "/usr/bin/" + request.arguments.joined(separator: " "),
            directory: request.directory ?? "/home/sprite",
            isTerminal: request.terminal != nil, terminalSize: request.terminal,
            createdAt: Timestamp(nanoseconds: 1_770_091_506_000_000_000))
        let arguments = request.arguments
        switch command {
        case "say":
            emit(.stdout, arguments[1])
            emit(.stderr, arguments[2])
            finish(.exited(UInt8(arguments[3]) ?? 0))
        case "zeros":
            var left = Int(arguments[1]) ?? 0
            let block = ByteBuffer(repeating: 0, count: 256 << 10)
            while left > 0 {
                let count = min(left, block.readableBytes)
                emit(.stdout, block.getSlice(at: 0, length: count) ?? block)
                left -= count
            }
            finish(.exited(0))
        case "env":
            let environment = request.environment.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
            emit(
                .stdout,
                "\(arguments.dropFirst().joined(separator: "|"));\(environment);\(request.directory ?? "-");"
                    + "\(request.user ?? "-");\(request.takesInput);"
                    + (request.maxRunAfterDisconnect.map { "\($0)" } ?? "-")
            )
            finish(.exited(0))
        default:
            break
        }
    }

    var hasEnded: Bool { state.withLockedValue { $0.status != nil } }
    var attachedCount: Int { state.withLockedValue { $0.attached } }
    var lastSize: TerminalSize? { state.withLockedValue { $0.sizes.last } }

    func emit(_ stream: OutputStream, _ text: String) { emit(stream, ByteBuffer(string: text)) }

    func emit(_ stream: OutputStream, _ bytes: ByteBuffer) {
        guard bytes.readableBytes > 0 else { return }
        wake { $0.events.append(.output(stream, bytes)) }
    }

    func finish(_ status: ExitStatus) {
        wake { state in
            guard state.status == nil else { return }
            state.status = status
            state.events.append(.exited(status))
        }
    }

    private func wake(_ change: (inout State) -> Void) {
        let waiters = state.withLockedValue { state in
            change(&state)
            defer { state.waiters = [] }
            return state.waiters
        }
        waiters.forEach { $0.resume() }
    }

    fileprivate func event(_ index: Int) -> SessionEvent? {
        state.withLockedValue { $0.events.indices.contains(index) ? $0.events[index] : nil }
    }

    /// Waits until there may be something new.
    fileprivate func change(after count: Int) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLockedValue { state in
                    if state.events.count > count || Task.isCancelled { return true }
                    state.waiters.append(continuation)
                    return false
                }
                if now { continuation.resume() }
            }
        } onCancel: {
            wake { _ in }
        }
    }

    fileprivate func setAttached(_ difference: Int) { state.withLockedValue { $0.attached += difference } }

    func attach() -> any SessionReader {
        setAttached(1)
        return FakeReader(self)
    }

    func attach(at point: ResumePoint?, mayResume: Bool) throws -> any SessionReader { attach() }

    func writeInput(_ bytes: ByteBuffer) async throws {
        if command == "cat" { emit(.stdout, bytes) }
        if command == "deaf" {
            _ = try await waitForExit()
        }
    }

    func closeInput() { if command == "cat" { finish(.exited(0)) } }

    fileprivate func resize(_ size: TerminalSize) {
        state.withLockedValue { $0.sizes.append(size) }
        emit(.stdout, "size \(size.rows)x\(size.columns)\n")
    }

    func signal(_ number: Int32) {
        if command == "wait" { emit(.stdout, "signal \(number)\n") }
        finish(.signaled(UInt8(number)))
    }

    func waitForExit() async throws -> ExitStatus {
        while true {
            if let status = state.withLockedValue({ $0.status }) { return status }
            try Task.checkCancellation()
            await change(after: state.withLockedValue { $0.events.count })
        }
    }
}

private final class FakeReader: SessionReader {
    let offsets: [Int64] = [0, 0]
    func lose() { detach() }

    private let session: FakeSession
    private let index = NIOLockedValueBox(0)
    private let isDetached = NIOLockedValueBox(false)

    init(_ session: FakeSession) { self.session = session }

    func next() async throws -> SessionEvent? {
        let index = index.withLockedValue { index in
            defer { index += 1 }
            return index
        }
        while true {
            try Task.checkCancellation()
            if let event = session.event(index) { return event }
            if session.hasEnded { return nil }
            await session.change(after: index)
        }
    }

    func resize(_ size: TerminalSize) { session.resize(size) }

    func detach() {
        let first = isDetached.withLockedValue { detached in
            defer { detached = true }
            return !detached
        }
        if first { session.setAttached(-1) }
    }
}
