// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem
import Synchronization

/// The journal reads the same files as clients do, from a thread of its own.
extension Session: RecordedOutput {
    package func look() -> OutputExtent {
        state.withLock { state in
            state.isReported = false
            return OutputExtent(
                streams: state.streams.map { $0.start..<$0.end }, ending: state.isFinished ? state.ending : nil,
                endedAt: state.endedAt)
        }
    }

    package func read(_ stream: Int, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int {
        readFile(files[stream].number, at: offset, into: memory)
    }

    package func setRecorded(_ stream: Int, upTo offset: Int64) {
        let unneeded = state.withLock { state in
            state.streams[stream].recorded = offset
            return state.takeUnneeded(stream, backlogMax: Limits.journalBacklogBytesMax)
        }
        if let unneeded { clinux_punch_hole(files[stream].number, unneeded.lowerBound, Int64(unneeded.count)) }
    }

    package func release() {
        let path = state.withLock { state in
            state.isRecorded = true
            for stream in state.streams.indices { state.streams[stream].recorded = nil }
            return state.asidePath.take()
        }
        if let path { remove(SessionFiles(directory: path)) }
    }

    package var isGone: Bool { state.withLock { $0.isGone } }

    /// Clients need the files no more; the journal may.
    func letGo(_ sessionFiles: SessionFiles) {
        let isNeeded = state.withLock { !$0.isRecorded && $0.streams[0].recorded != nil }
        guard isNeeded, let asideFolder else { return remove(sessionFiles) }
        let path = asidePath(asideFolder, sprite, info)
        guard rename(sessionFiles.directory, path) == 0 else { return remove(sessionFiles) }
        let isOver = state.withLock { state in
            if !state.isRecorded { state.asidePath = path }
            return state.isRecorded
        }
        if isOver { remove(SessionFiles(directory: path)) }
    }

    private func remove(_ sessionFiles: SessionFiles) {
        sessionFiles.remove()
        state.withLock { $0.isGone = true }
    }
}

/// Output of a session that ended when no daemon was there to record it.
final class LeftoverOutput: RecordedOutput {
    let sprite: SpriteID
    let info: SessionInfo
    private let directory: String
    private let files: [Descriptor]

    init?(directory: String, sprite: SpriteID, session: String) {
        let folder = SessionFiles(directory: directory)
        guard let record = folder.load(id: session),
            let files = try? folder.open(isTerminal: record.info.isTerminal)
        else { return nil }
        self.sprite = sprite
        self.directory = directory
        self.files = files
        info = record.info
    }

    func look() -> OutputExtent {
        let extents = files.map { SessionFiles.extent($0) }
        return OutputExtent(streams: extents.map { $0.start..<$0.end }, ending: .lost, endedAt: nil)
    }

    func read(_ stream: Int, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int {
        readFile(files[stream].number, at: offset, into: memory)
    }

    func setRecorded(_ stream: Int, upTo offset: Int64) {}
    func release() { SessionFiles(directory: directory).remove() }
    var isGone: Bool { access(directory, F_OK) != 0 }
}

/// Folders of sessions that only the journal still needs.
struct AsideFolder: Sendable {
    let path: String
    let recorder: any OutputRecorder

    /// Hands over what an earlier daemon had put aside.
    func takeOver() {
        for name in SessionFiles.names(in: path) {
            let parts = name.split(separator: ".")
            guard parts.count == 3, let sprite = SpriteID(rawValue: String(parts[0])) else { continue }
            hand("\(path)/\(name)", sprite, String(parts[1]))
        }
    }

    /// Puts a session's folder aside that nobody else knows.
    func put(_ directory: String, _ sprite: SpriteID, _ session: String) {
        guard let record = SessionFiles(directory: directory).load(id: session) else {
            return SessionFiles(directory: directory).remove()
        }
        let place = asidePath(path, sprite, record.info)
        guard rename(directory, place) == 0 else { return SessionFiles(directory: directory).remove() }
        hand(place, sprite, session)
    }

    private func hand(_ directory: String, _ sprite: SpriteID, _ session: String) {
        guard let output = LeftoverOutput(directory: directory, sprite: sprite, session: session) else {
            return SessionFiles(directory: directory).remove()
        }
        recorder.opened(output, start: nil)
    }
}

private func asidePath(_ folder: String, _ sprite: SpriteID, _ info: SessionInfo) -> String {
    "\(folder)/\(sprite).\(info.id).\(info.createdAt.nanoseconds)"
}

private func readFile(_ file: Int32, at offset: Int64, into memory: UnsafeMutableRawBufferPointer) -> Int {
    while true {
        let count = pread(file, memory.baseAddress, memory.count, off_t(offset))
        if count >= 0 || errno != EINTR { return max(0, count) }
    }
}
