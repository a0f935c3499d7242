// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import NIOCore
import SpriteSystem
import Synchronization

/// Writes queued input to a command, as fast as it takes it. On the event thread.
final class InputPump {
    private let loop: EventLoop
    private let session: Session
    private let descriptor: Descriptor
    private let isTerminal: Bool
    private var watch: EventLoop.Watch?
    private var retry: EventLoop.Timer?
    private var isClosed = false
    /// How often a terminal was waited for. It may be nobody's doing if this thread got no processor in the middle of a
    /// write; again and again, somebody inside makes the terminal blocking.
    private var interruptions = 0
    private static let interruptionsMax = 3
    /// Nothing is written any more: PID 1 may close its copy.
    private let onClose: () -> Void

    init(loop: EventLoop, session: Session, descriptor: Descriptor, isTerminal: Bool, onClose: @escaping () -> Void) {
        self.loop = loop
        self.session = session
        self.descriptor = descriptor
        self.isTerminal = isTerminal
        self.onClose = onClose
    }

    func flush() {
        while !isClosed {
            let (next, isEnding) = session.state.withLock { state in
                state.input.isAnnounced = false
                return (state.input.next, state.input.isEnding)
            }
            guard let next else {
                if isEnding { close() }
                return
            }
            if isTerminal { _ = clinux_set_nonblocking(descriptor.number, 1) }
            let count = next.withUnsafeReadableBytes { bytes in
                let size = min(bytes.count, 64 << 10)
                guard isTerminal else { return write(descriptor.number, bytes.baseAddress, size) }
                let count = clinux_write_terminal(descriptor.number, bytes.baseAddress, size)
                if count == -Int(EINTR) {
                    interruptions += 1
                    errno = interruptions > Self.interruptionsMax ? EIO : EAGAIN
                } else if count < 0 {
                    errno = Int32(-count)
                }
                return count
            }
            if count > 0 {
                let waiters = session.state.withLock { $0.input.consume(count) }
                for waiter in waiters { waiter.resume() }
            } else if count < 0, errno == EINTR {
                continue
            } else if count < 0, errno == EAGAIN {
                return waitUntilWritable()
            } else {
                return close()
            }
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        if let watch { loop.unwatch(watch) }
        if let retry { loop.cancel(retry) }
        watch = nil
        let waiters = session.state.withLock { $0.input.close() }
        for waiter in waiters { waiter.resume() }
        onClose()
    }

    private func waitUntilWritable() {
        if isTerminal {
            // Its descriptor is watched for output already; a full terminal is rare, so look again shortly.
            guard retry == nil else { return }
            retry = loop.after(.milliseconds(10)) { [weak self] in
                self?.retry = nil
                self?.flush()
            }
        } else if watch == nil {
            watch = try? loop.watch(descriptor.number, EventLoop.writable | EventLoop.edge) { [weak self] _ in
                self?.flush()
            }
            // What was taken between the attempt and the watch shows as an event at once.
        }
    }
}
