// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Synchronization

@testable import SpriteJournal

/// A session whose output lies in memory instead of files.
final class PrintedOutput: RecordedOutput {
    private struct State {
        var streams: [[UInt8]]
        var starts: [Int64]
        var recorded: [Int64]
        var ending: ExitStatus?
        var isReleased = false
        var isGone = false
    }

    let sprite: SpriteID
    let info: SessionInfo
    private let state: Mutex<State>

    init(_ sprite: SpriteID = .random(), session: String = "1", isTerminal: Bool = false) {
        self.sprite = sprite
        info = SessionInfo(
            id: session, command: "/bin/test", directory: "/", isTerminal: isTerminal, terminalSize: nil,
            createdAt: .now())
        let count = isTerminal ? 1 : 2
        state = Mutex(
            State(
                streams: Array(repeating: [], count: count), starts: Array(repeating: 0, count: count),
                recorded: Array(repeating: 0, count: count)))
    }

    var isReleased: Bool { state.withLock { $0.isReleased } }
    var isGone: Bool { state.withLock { $0.isReleased && $0.isGone } }
    /// Its files were removed.
    func remove() { state.withLock { $0.isGone = true } }

    func print(_ bytes: some Sequence<UInt8>, stream: Int = 0) {
        state.withLock { $0.streams[stream] += Array(bytes) }
    }
    func print(_ text: String, stream: Int = 0) { print(text.utf8, stream: stream) }
    func end(_ status: ExitStatus = .exited(0)) { state.withLock { $0.ending = status } }
    /// The files keep nothing before this place any more.
    func forget(_ stream: Int = 0, before position: Int64) { state.withLock { $0.starts[stream] = position } }

    func look() -> OutputExtent {
        state.withLock { state in
            OutputExtent(
                streams: zip(state.starts, state.streams).map { $0..<Int64($1.count) }, ending: state.ending,
                endedAt: state.ending == nil ? nil : .now())
        }
    }

    func read(_ stream: Int, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int {
        state.withLock { state in
            let bytes = state.streams[stream].dropFirst(Int(offset)).prefix(memory.count)
            memory.copyBytes(from: bytes)
            return bytes.count
        }
    }

    func setRecorded(_ stream: Int, upTo offset: Int64) { state.withLock { $0.recorded[stream] = offset } }
    func release() { state.withLock { $0.isReleased = true } }
}
