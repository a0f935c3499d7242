// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

/// A session that prints from memory, as far as the journal has read.
final class LinePrinter: RecordedOutput {
    private struct State {
        var bytes: [UInt8] = []
        /// Place of the first of them.
        var start: Int64 = 0
        var isEnded = false
    }

    let number: Int
    let sprite: SpriteID
    let info: SessionInfo
    private let state = Mutex(State())
    private static let identities = Mutex<[Int: SpriteID]>([:])

    init(sprite number: Int, session: Int) {
        self.number = number
        sprite = Self.identities.withLock { known in
            let id = known[number] ?? .random()
            known[number] = id
            return id
        }
        info = SessionInfo(
            id: "\(session)", command: "/usr/bin/bench", directory: "/", isTerminal: false, terminalSize: nil,
            createdAt: .now())
    }

    /// Lines of 100 bytes, of words as a server prints them; one in a million has the rare one.
    func print(_ count: Int, from first: Int, rare: String) {
        var text = ""
        for number in first..<first + count {
            var line = "2026-01-31T12:00:00Z info request \(number) took \(number &* 7919 % 1000) ms for user "
            line += "u\(number &* 104_729 % 50_000) at /api/items/\(number % 4096)"
            if number % 1_000_000 == 500_000 { line += " \(rare)" }
            line += String(repeating: ".", count: max(0, 99 - line.utf8.count))
            text += line.prefix(99) + "\n"
        }
        state.withLock { $0.bytes += Array(text.utf8) }
    }

    func end() { state.withLock { $0.isEnded = true } }

    var isGone: Bool { true }

    /// All of it is in the journal.
    var isRecorded: Bool { state.withLock { $0.bytes.isEmpty } }

    func look() -> OutputExtent {
        state.withLock { state in
            let end = state.start + Int64(state.bytes.count)
            return OutputExtent(
                streams: [state.start..<end, 0..<0], ending: state.isEnded ? .exited(0) : nil,
                endedAt: state.isEnded ? .now() : nil)
        }
    }

    func read(_ stream: Int, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int {
        guard stream == 0 else { return 0 }
        return state.withLock { state in
            let rest = state.bytes.dropFirst(Int(offset - state.start)).prefix(memory.count)
            memory.copyBytes(from: rest)
            return rest.count
        }
    }

    func setRecorded(_ stream: Int, upTo offset: Int64) {
        guard stream == 0 else { return }
        state.withLock { state in
            state.bytes.removeFirst(Int(offset - state.start))
            state.start = offset
        }
    }

    func release() {}
}

/// The time that records get: ten days go by in a minute.
final class RecordClock: Sendable {
    private let time: Mutex<Int64>

    init() { time = Mutex(Timestamp.now().nanoseconds - 10 * 86_400_000_000_000) }

    var now: Timestamp { time.withLock { Timestamp(nanoseconds: $0) } }
    func advance(by seconds: Double) { time.withLock { $0 += Int64(seconds * 1e9) } }
    func end() { time.withLock { $0 = Timestamp.now().nanoseconds } }
}
