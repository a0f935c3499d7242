// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem
import Synchronization

/// What others leave for the writing thread. Leaving something costs a lock and at most one system call.
final class JournalMailbox: Sendable {
    struct Content {
        var items: [Item] = []
        var opened: [(output: any RecordedOutput, start: CommandStart?, time: Timestamp, trace: TraceID?)] = []
        var changed: [any RecordedOutput] = []
        /// What could not be taken.
        var dropped = 0
        var isStopped = false
        var isEmpty: Bool { items.isEmpty && opened.isEmpty && changed.isEmpty && dropped == 0 }
    }

    enum Item: Sendable {
        case record(JournalRecord)
        case span(JournalSpan)
        /// A number that outlives the daemon.
        case state(String, Int64)
        case description(SpriteID, name: SpriteName, source: CheckpointID)
    }

    /// Beyond this, records are dropped and counted: some 50 MB.
    private static let itemsMax = 100_000

    private struct State {
        var content = Content()
        var isSleeping = false
    }

    private let state = Mutex(State())
    private let wakeup: Descriptor

    init() throws { wakeup = Descriptor(owning: try checked(clinux_wakeup(), "eventfd")) }

    func leave(_ item: Item) {
        put { content in
            guard content.items.count < JournalMailbox.itemsMax else {
                if case .description = item { content.items.append(item) } else { content.dropped += 1 }
                return
            }
            content.items.append(item)
        }
    }

    func put(_ change: (inout Content) -> Void) {
        let mustWake = state.withLock { state in
            change(&state.content)
            defer { state.isSleeping = false }
            return state.isSleeping
        }
        if mustWake { clinux_wake(wakeup.number) }
    }

    var isStopped: Bool { state.withLock { $0.content.isStopped } }

    /// How many records wait to be written.
    var waiting: Int { state.withLock { $0.content.items.count } }

    func take() -> Content {
        state.withLock { state in
            defer {
                state.content = Content()
                state.content.isStopped = false
            }
            return state.content
        }
    }

    /// Returns when there is something, or after the time.
    func sleep(milliseconds: Int32) {
        let isEmpty = state.withLock { state in
            state.isSleeping = state.content.isEmpty && !state.content.isStopped
            return state.isSleeping
        }
        guard isEmpty else { return }
        var polled = pollfd(fd: wakeup.number, events: Int16(POLLIN), revents: 0)
        poll(&polled, 1, milliseconds)
        state.withLock { $0.isSleeping = false }
        clinux_wakeup_clear(wakeup.number)
    }
}
