// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import NIOCore
import SpriteDomain
import SpriteSystem
import Synchronization

/// One attached client: reads the session's files at its own pace.
final class Reader: SessionReader {
    private static let bytesMax = 256 << 10
    private let session: Session
    private let id: Int
    private let mayResume: Bool
    /// The exit status was taken and the session was not told yet.
    private let hasExit = Atomic(false)
    let offsets: [Int64]

    init(session: Session, id: Int, offsets: [Int64], mayResume: Bool) {
        self.session = session
        self.id = id
        self.offsets = offsets
        self.mayResume = mayResume
    }

    deinit { if mayResume { lose() } else { detach() } }

    func next() async throws -> SessionEvent? {
        while true {
            try Task.checkCancellation()
            let waiter = Waiter<Void>()
            let step = session.state.withLock { state in
                let step = state.step(id, bytesMax: Reader.bytesMax)
                if case .wait = step { state.readers[id]?.waiter = waiter }
                return step
            }
            switch step {
            case .read(let stream, let offset, let count): return try read(stream, offset, count)
            case .exited(let status):
                hasExit.store(true, ordering: .relaxed)
                if !mayResume { confirmExit() }
                return .exited(status)
            case .wait: try await waiter.wait()
            case .end: return nil
            case .detached: throw CancellationError()
            case .tooSlow: throw TooSlow()
            }
        }
    }

    func resize(_ size: TerminalSize) {
        let applied = session.state.withLock { state in
            state.readers[id]?.terminalSize = size
            return state.applyTerminalSize()
        }
        if let applied { session.tell { $0.resize(applied) } }
    }

    func detach() {
        leave(isLost: false)
        confirmExit()
    }

    func lose() { leave(isLost: true) }

    private func confirmExit() {
        if hasExit.exchange(false, ordering: .relaxed) { session.tell { $0.exitWasDelivered() } }
    }

    private func leave(isLost: Bool) {
        let (wasAttached, waiter, size) = session.state.withLock { state in
            state.cutOff.remove(id)
            let reader = state.readers.removeValue(forKey: id)
            if isLost, let reader, state.readers.isEmpty, state.ending == nil { state.awaited = reader.offsets }
            return (reader != nil, reader?.waiter, state.applyTerminalSize())
        }
        waiter?.resume(.failure(CancellationError()))
        if let size { session.tell { $0.resize(size) } }
        if wasAttached { session.tell { $0.detached(isLost: isLost) } }
    }

    private func read(_ stream: Int, _ offset: Int64, _ count: Int) throws -> SessionEvent {
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        let file = session.files[stream].number
        var number: Int32 = 0
        let result = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            while true {
                let result = pread(file, memory.baseAddress, count, off_t(offset))
                if result > 0 { return result }
                number = errno
                if result == 0 || number != EINTR { return 0 }
            }
        }
        guard result > 0 else {
            throw SpriteError(
                .internalError, "cannot read the output of the session",
                cause: SystemError(number, "read a session's file"))
        }
        let hasRoom = session.state.withLock { $0.advance(id, stream: stream, by: result) }
        if hasRoom { session.tell { $0.collect(stream) } }
        return .output(stream == 0 ? .stdout : .stderr, buffer)
    }
}
