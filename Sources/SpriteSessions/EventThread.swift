// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem
import Synchronization

/// The one thread that does everything with descriptors of sessions.
///
/// Others reach what it owns by posting jobs; a job gets the ``SessionCore`` and is the only way to it.
final class EventThread: Sendable {
    typealias Job = @Sendable (SessionCore) -> Void

    private struct Mailbox {
        var jobs: [Job] = []
        var isStopped = false
    }
    private let mailbox = Mutex(Mailbox())
    private let wakeup: Descriptor

    private init() throws { wakeup = Descriptor(owning: try checked(clinux_wakeup(), "eventfd")) }

    /// Starts the thread; `make` runs on it and makes what it owns.
    static func start(_ make: @escaping @Sendable (EventLoop, EventThread) -> SessionCore) throws -> EventThread {
        let thread = try EventThread()
        // Made here so that a failure is the caller's; used by the new thread alone from then on.
        nonisolated(unsafe) let loop = try EventLoop(wakeup: thread.wakeup.number)
        let body = ThreadBody { thread.run(make(loop, thread), loop) }
        var handle = pthread_t()
        let result = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(body).toOpaque())
        guard result == 0 else { throw SystemError(result, "start the event thread") }
        pthread_detach(handle)
        return thread
    }

    /// Hands a job to the thread; nothing happens after ``stop(_:)``. Returns false then.
    @discardableResult
    func post(_ job: @escaping Job) -> Bool {
        let (isFirst, isStopped) = mailbox.withLock { mailbox in
            if !mailbox.isStopped { mailbox.jobs.append(job) }
            return (mailbox.jobs.count == 1, mailbox.isStopped)
        }
        if isFirst { clinux_wake(wakeup.number) }
        return !isStopped
    }

    /// Ends the thread after the jobs that were posted before; `last` runs at the very end.
    func stop(_ last: @escaping Job) {
        mailbox.withLock { mailbox in
            guard !mailbox.isStopped else { return }
            mailbox.jobs.append(last)
            mailbox.isStopped = true
        }
        clinux_wake(wakeup.number)
    }

    private func run(_ core: SessionCore, _ loop: EventLoop) {
        while true {
            guard loop.turn() else { continue }
            clinux_wakeup_clear(wakeup.number)
            let (jobs, isStopped) = mailbox.withLock { mailbox in
                defer { mailbox.jobs = [] }
                return (mailbox.jobs, mailbox.isStopped)
            }
            for job in jobs { job(core) }
            if isStopped { return }
        }
    }
}

private final class ThreadBody: Sendable {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func run() { body() }
}
