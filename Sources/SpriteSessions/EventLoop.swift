// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Descriptors and timers of the event thread; not to be touched from anywhere else, which is why it is not Sendable.
final class EventLoop {
    struct Timer: Hashable { fileprivate let id: UInt64 }
    struct Watch: Hashable {
        fileprivate let token: UInt64
        fileprivate let descriptor: Int32
    }
    static let readable = UInt32(CLINUX_READABLE)
    static let writable = UInt32(CLINUX_WRITABLE)
    static let edge = UInt32(CLINUX_EDGE)

    private let poller: Descriptor
    private var handlers: [UInt64: (UInt32) -> Void] = [:]
    private var nextToken: UInt64 = 1
    /// Latest deadline first, so that the next one is at the end.
    private var deadlines: [(deadline: Int64, id: UInt64)] = []
    private var timers: [UInt64: () -> Void] = [:]
    private var runnable: [() -> Void] = []
    private var events = [clinux_event](repeating: clinux_event(), count: 64)

    init(wakeup: Int32) throws {
        poller = Descriptor(owning: try checked(clinux_poller(), "epoll"))
        try checked(clinux_watch(poller.number, wakeup, EventLoop.readable, 0), "epoll")
    }

    /// Calls `handler` with what is ready. The caller keeps the descriptor open until ``unwatch(_:)``.
    func watch(_ descriptor: Int32, _ wanted: UInt32, _ handler: @escaping (UInt32) -> Void) throws -> Watch {
        let token = nextToken
        nextToken += 1
        try checked(clinux_watch(poller.number, descriptor, wanted, token), "epoll")
        handlers[token] = handler
        return Watch(token: token, descriptor: descriptor)
    }

    func change(_ watch: Watch, _ wanted: UInt32) {
        clinux_watch(poller.number, watch.descriptor, wanted, watch.token)
    }

    func unwatch(_ watch: Watch) {
        handlers[watch.token] = nil
        clinux_unwatch(poller.number, watch.descriptor)
    }

    /// Runs `body` in the next turn, after the descriptors that are ready now have had theirs.
    func soon(_ body: @escaping () -> Void) { runnable.append(body) }

    @discardableResult
    func after(_ delay: Duration, _ body: @escaping () -> Void) -> Timer {
        let id = nextToken
        nextToken += 1
        let (sum, overflow) = EventLoop.now().addingReportingOverflow(max(delay.nanoseconds, 0))
        let deadline = overflow ? Int64.max : sum
        let place = deadlines.firstIndex { $0.deadline <= deadline } ?? deadlines.count
        deadlines.insert((deadline, id), at: place)
        timers[id] = body
        return Timer(id: id)
    }

    func cancel(_ timer: Timer) {
        timers[timer.id] = nil
        // The deadline stays until it is due, unless most of them are like that.
        if deadlines.count > 64, deadlines.count > 2 * timers.count { deadlines.removeAll { timers[$0.id] == nil } }
    }

    /// Waits for something to do and does it. Returns true if the thread was woken up.
    func turn() -> Bool {
        let count = clinux_wait_events(poller.number, &events, Int32(events.count), pause())
        var woken = false
        for event in events.prefix(Int(max(count, 0))) {
            if event.token == 0 { woken = true } else { handlers[event.token]?(event.events) }
        }
        let due = runnable
        runnable = []
        for body in due { body() }
        let now = EventLoop.now()
        while let last = deadlines.last, last.deadline <= now {
            deadlines.removeLast()
            timers.removeValue(forKey: last.id)?()
        }
        return woken
    }

    private func pause() -> Int64 {
        if !runnable.isEmpty { return 0 }
        while let last = deadlines.last, timers[last.id] == nil { deadlines.removeLast() }
        guard let last = deadlines.last else { return -1 }
        // A deadline may be as far away as there is time.
        return (max(last.deadline, EventLoop.now()) - EventLoop.now() + 999) / 1000
    }

    /// Nanoseconds of the monotonic clock.
    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

extension Duration {
    /// Whole nanoseconds, at most 292 years.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, sumOverflow) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return sumOverflow ? .max : sum
    }
}
