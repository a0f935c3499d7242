// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Moves one output of a command into its session file, inside the kernel. On the event thread.
///
/// At no moment are bytes only in memory of ours: a daemon that is killed has lost nothing, since they are either in
/// the pipe, of which PID 1 holds a copy, or in the file. A terminal cannot be spliced into a file, so its bytes go
/// through a relay pipe that PID 1 holds as well.
final class OutputPump {
    enum Source {
        case pipe(Descriptor)
        case terminal(master: Descriptor, relayRead: Descriptor, relayWrite: Descriptor)
    }
    private enum Progress { case some, empty, end, noSpace }
    /// One session's share of a turn.
    private static let turnBytesMax = 1 << 20
    /// More than the kernel holds between the two ends of a terminal.
    private static let terminalBytesMax = 256 << 10
    private static let retry: Duration = .milliseconds(50)
    /// From 128 KiB in 2 ms on, fewer than 96 KiB are left to gather for up to 4 × 80 µs; the pipe holds 256 KiB.
    private static let period: Int64 = 2_000_000
    private static let busyBytes = 128 << 10
    private static let batchBytes: Int32 = 96 << 10
    private static let batchPausesMax = 4
    private static let batchPause: Duration = .microseconds(80)

    private let loop: EventLoop
    private let source: Source
    private let file: Descriptor
    private var offset: Int64
    private var watch: EventLoop.Watch?
    private var mayHaveMore = true
    private var isScheduled = false
    /// Set when the process has ended: how much of what is still there is its own and not a descendant's.
    private var remaining: Int?
    private var periodStart: Int64 = 0
    private var periodBytes = 0
    private var lastPeriodBytes = 0
    /// Bytes that still come are thrown away.
    private var isDiscarding = false
    private var sink: Descriptor?

    /// The other ends are all closed.
    private(set) var isAtEnd = false
    /// Everything of the command is in the file.
    private(set) var isCollected = false

    /// How many bytes may be taken now.
    var window: () -> Int = { .max }
    var onBytes: (Int) -> Void = { _ in }
    /// ``isCollected`` or ``isAtEnd`` became true.
    var onChange: () -> Void = {}

    /// - Parameter offset: The end of the file: where a daemon before this one stopped.
    init(loop: EventLoop, source: Source, file: Descriptor, offset: Int64) {
        self.loop = loop
        self.source = source
        self.file = file
        self.offset = offset
    }

    private var watched: Descriptor {
        switch source {
        case .pipe(let descriptor): descriptor
        case .terminal(let master, _, _): master
        }
    }

    func start() throws {
        // Edge-triggered: no system call to pause, and none while the pipe is merely not empty.
        watch = try loop.watch(watched.number, EventLoop.readable | EventLoop.edge) { [weak self] _ in
            self?.becameReadable()
        }
        schedule()
    }

    /// The process has ended, so everything it wrote is there: that much is collected, and no more.
    func processEnded() {
        guard !isCollected, remaining == nil else { return }
        switch source {
        case .pipe(let descriptor): remaining = Int(max(clinux_readable_bytes(descriptor.number), 0))
        case .terminal: remaining = OutputPump.terminalBytesMax
        }
        mayHaveMore = true
        run()
    }

    /// Keeps descendants that still write from blocking or from SIGPIPE, without keeping what they write.
    func discard() {
        guard !isAtEnd, !isDiscarding else { return }
        isDiscarding = true
        isCollected = true
        sink = try? Descriptor.open("/dev/null", O_WRONLY)
        if case .terminal = source {
            atEnd()
        } else if sink == nil {
            atEnd()
        } else {
            mayHaveMore = true
            schedule()
        }
    }

    func close() {
        if let watch { loop.unwatch(watch) }
        watch = nil
        isAtEnd = true
    }

    private func becameReadable() {
        mayHaveMore = true
        if !isScheduled { gather(pauses: OutputPump.batchPausesMax) }
    }

    /// A command that writes without pause would wake this thread and the client for every few kilobytes.
    private func gather(pauses: Int) {
        guard pauses > 0, isBusy, remaining == nil, case .pipe(let descriptor) = source,
            (0..<OutputPump.batchBytes).contains(clinux_readable_bytes(descriptor.number))
        else { return run() }
        isScheduled = true
        loop.after(OutputPump.batchPause) { [weak self] in
            self?.isScheduled = false
            self?.gather(pauses: pauses - 1)
        }
    }

    /// True while more comes than anybody could look at.
    private var isBusy: Bool {
        let age = EventLoop.now() - periodStart
        return age < 2 * OutputPump.period && max(periodBytes, lastPeriodBytes) >= OutputPump.busyBytes
    }

    private func count(_ bytes: Int) {
        let now = EventLoop.now()
        if now - periodStart >= OutputPump.period {
            lastPeriodBytes = now - periodStart < 2 * OutputPump.period ? periodBytes : 0
            periodStart = now
            periodBytes = 0
        }
        periodBytes += bytes
    }

    private func schedule() {
        guard !isScheduled else { return }
        isScheduled = true
        loop.soon { [weak self] in
            self?.isScheduled = false
            self?.run()
        }
    }

    private static let moveCost = 4 << 10

    func run() {
        var budget = OutputPump.turnBytesMax
        while !isAtEnd, mayHaveMore, isDiscarding || !isCollected {
            guard budget > 0 else { return schedule() }
            var limit = budget
            if !isDiscarding {
                if let remaining { limit = min(limit, remaining) }
                if limit == 0 { return collected() }
                limit = min(limit, window())
                // Called again when a client has made room.
                if limit == 0 { return }
            }
            let (progress, count) = isDiscarding ? throwAway(limit) : step(limit)
            switch progress {
            case .some:
                // What is only moved on costs time as well.
                budget -= max(count, OutputPump.moveCost)
                self.count(count)
                if let remaining { self.remaining = remaining - count }
                if count > 0, !isDiscarding { onBytes(count) }
            case .empty:
                mayHaveMore = false
                if remaining != nil, !isCollected { collected() }
            case .end: atEnd()
            case .noSpace:
                loop.after(OutputPump.retry) { [weak self] in self?.run() }
                return
            }
        }
    }

    private func step(_ limit: Int) -> (Progress, Int) {
        switch source {
        case .pipe(let descriptor): return splice(descriptor, limit)
        case .terminal(let master, let relayRead, let relayWrite):
            let (progress, count) = splice(relayRead, limit)
            guard progress == .empty else { return (progress, count) }
            // Somebody inside has the same open description and may make it blocking, at any moment.
            _ = clinux_set_nonblocking(master.number, 1)
            let moved = clinux_splice_terminal(master.number, relayWrite.number, 64 << 10)
            if moved > 0 { return (.some, 0) }
            // The end of a terminal reads as EIO. One that somebody made wait is not waited for a second time.
            return (moved == -Int(EAGAIN) ? .empty : .end, 0)
        }
    }

    private func splice(_ descriptor: Descriptor, _ limit: Int) -> (Progress, Int) {
        let count = clinux_splice(descriptor.number, nil, file.number, &offset, limit)
        switch count {
        case 1...: return (.some, count)
        case 0: return (.end, 0)
        case -Int(EAGAIN): return (.empty, 0)
        case -Int(ENOSPC), -Int(ENOMEM), -Int(EDQUOT): return (.noSpace, 0)
        default: return (.end, 0)
        }
    }

    private func throwAway(_ limit: Int) -> (Progress, Int) {
        guard case .pipe(let descriptor) = source, let sink else { return (.end, 0) }
        let count = clinux_splice(descriptor.number, nil, sink.number, nil, limit)
        return count > 0 ? (.some, count) : (count == -Int(EAGAIN) ? .empty : .end, 0)
    }

    private func collected() {
        guard !isCollected else { return }
        isCollected = true
        onChange()
    }

    private func atEnd() {
        guard !isAtEnd else { return }
        close()
        isCollected = true
        onChange()
    }
}
