// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain

/// What the event thread and the clients of one session share, under the session's lock.
///
/// Plain values: it says who has to be woken or told, and the caller does that outside the lock.
struct SessionState {
    /// One output stream, as it lies in its file.
    struct Stream {
        /// First byte that is kept.
        var start: Int64 = 0
        /// Bytes so far.
        var end: Int64 = 0
        /// The event thread stopped taking output and wants to be told when there is room.
        var isPaused = false
        /// What the journal has for good; nil if nothing is recorded.
        var recorded: Int64?
    }

    /// One attached client.
    struct Reader {
        /// Next byte of each stream.
        var offsets: [Int64]
        /// The stream to look at first, so that neither starves.
        var turn = 0
        var hasExit = false
        /// Of its terminal; nil until it says so.
        var terminalSize: TerminalSize?
        var waiter: Waiter<Void>?
    }

    /// What a client does next.
    enum Step {
        case read(stream: Int, offset: Int64, count: Int)
        case exited(ExitStatus)
        case wait
        /// Everything was delivered.
        case end
        case detached
        case tooSlow
    }

    var info: SessionInfo
    var streams: [Stream]
    var readers: [Int: Reader] = [:]
    var nextReader = 0
    /// Clients that were let go since they were too far behind, and do not know it yet.
    var cutOff: Set<Int> = []
    /// Where a client is expected to attach that started it, or whose connection was lost: until then the command is
    /// held back as if it stood there, and nothing more is given up.
    var awaited: [Int64]?
    /// Set when the process has ended.
    var ending: ExitStatus?
    /// Set when, in addition, all its output is in the files.
    var isFinished = false
    var exitWaiters: [ObjectIdentifier: Waiter<ExitStatus>] = [:]
    var endedAt: Timestamp?
    var input = InputQueue()
    /// The journal was told of news and has not looked yet.
    var isReported = false
    /// The journal has all of it.
    var isRecorded = false
    /// Where the files were put aside for the journal.
    var asidePath: String?
    /// The files were removed.
    var isGone = false

    init(info: SessionInfo) {
        self.info = info
        streams = [Stream](repeating: Stream(), count: info.isTerminal ? 1 : 2)
    }

    // MARK: The event thread

    /// How many bytes may be taken from the command now; marks the stream paused if none.
    ///
    /// The fastest client sets the pace, so that a slow one never holds the others up.
    mutating func window(_ stream: Int) -> Int {
        let first = awaited?[stream]
        guard let fastest = readers.values.map({ $0.offsets[stream] }).max() ?? first else { return .max }
        let room = Int64(Limits.streamWindowBytesMax) - (streams[stream].end - fastest)
        streams[stream].isPaused = room <= 0
        return Int(max(room, 0))
    }

    /// Bytes came into a stream's file. Returns who waits for them.
    mutating func append(_ count: Int, to stream: Int) -> [Waiter<Void>] {
        streams[stream].end += Int64(count)
        info.lastActivityAt = .now()
        return takeWaiters()
    }

    /// The bytes of a stream that nobody needs any more, once they are worth the call; they count as gone from then.
    ///
    /// - Parameter backlogMax: So much is kept for the journal.
    mutating func takeUnneeded(_ stream: Int, backlogMax: Int) -> Range<Int64>? {
        guard awaited == nil else { return nil }
        let page: Int64 = 4096
        let step: Int64 = 1 << 20
        var keep = streams[stream].end - Int64(Limits.scrollbackBytesMax)
        for reader in readers.values { keep = min(keep, reader.offsets[stream]) }
        if let recorded = streams[stream].recorded {
            keep = min(keep, max(recorded, streams[stream].end - Int64(backlogMax)))
        }
        keep -= keep % page
        let start = streams[stream].start
        guard keep - start >= step else { return nil }
        streams[stream].start = keep
        return start..<keep
    }

    /// Whether the journal has to be told of news.
    mutating func report() -> Bool {
        guard !isReported, streams[0].recorded != nil, !isRecorded else { return false }
        isReported = true
        return true
    }

    /// Lets go of clients that are too far behind; true if there were any.
    mutating func cutOffLaggards(_ stream: Int) -> Bool {
        // The fastest is never too far behind: the command waits for it.
        guard readers.count > 1, let fastest = readers.values.map({ $0.offsets[stream] }).max() else { return false }
        let first = fastest - Int64(Limits.readerLagBytesMax)
        var found = false
        for (id, reader) in readers where reader.offsets[stream] < first {
            readers[id] = nil
            cutOff.insert(id)
            reader.waiter?.resume(.failure(CancellationError()))
            found = true
        }
        return found
    }

    mutating func finish() -> [Waiter<Void>] {
        isFinished = true
        return takeWaiters()
    }

    mutating func end(_ status: ExitStatus) -> [Waiter<ExitStatus>] {
        ending = status
        endedAt = .now()
        defer { exitWaiters = [:] }
        return Array(exitWaiters.values)
    }

    private mutating func takeWaiters() -> [Waiter<Void>] {
        var waiters: [Waiter<Void>] = []
        for (id, reader) in readers {
            guard let waiter = reader.waiter else { continue }
            waiters.append(waiter)
            readers[id]?.waiter = nil
        }
        return waiters
    }

    // MARK: Clients

    /// Where a client begins that has nothing yet.
    private var beginnings: [Int64] {
        // What is kept beyond that waits for the journal, and would put a new client far behind the others.
        let furthest = Int64(Limits.readerLagBytesMax / 2)
        return streams.map { $0.end - $0.start > furthest ? $0.end - Int64(Limits.scrollbackBytesMax) : $0.start }
    }

    /// - Parameter point: Where to go on; from what is kept if nil.
    mutating func attach(at point: ResumePoint? = nil) throws(SpriteError) -> (id: Int, offsets: [Int64]) {
        if let instance = point?.instance, instance != info.instance {
            throw SpriteError(.gone, "cannot resume session \(info.id): it is another command of the same id")
        }
        var offsets = beginnings
        for (stream, wanted) in [point?.stdout, point?.stderr].prefix(streams.count).enumerated() {
            guard let wanted else { continue }
            let kept = streams[stream].start...streams[stream].end
            guard kept.contains(wanted) else {
                let name = stream == 0 ? "stdout" : "stderr"
                throw SpriteError(
                    .gone,
                    "cannot resume session \(info.id) at byte \(wanted) of \(name): kept are bytes "
                        + "\(kept.lowerBound) to \(kept.upperBound)")
            }
            offsets[stream] = wanted
        }
        return (attach(offsets), offsets)
    }

    private mutating func attach(_ offsets: [Int64]) -> Int {
        let id = nextReader
        nextReader += 1
        awaited = nil
        readers[id] = Reader(offsets: offsets)
        // Whoever started the command said it with the request.
        if id == 0 { readers[id]?.terminalSize = info.terminalSize }
        return id
    }

    /// Makes the newest client's size the terminal's. Returns it if that is a change; the size stays when nobody is left.
    mutating func applyTerminalSize() -> TerminalSize? {
        let newest = readers.filter { $0.value.terminalSize != nil }.max { $0.key < $1.key }
        guard info.isTerminal, let size = newest?.value.terminalSize, size != info.terminalSize else { return nil }
        info.terminalSize = size
        return size
    }

    mutating func step(_ id: Int, bytesMax: Int) -> Step {
        guard let reader = readers[id] else { return cutOff.remove(id) == nil ? .detached : .tooSlow }
        for index in 0..<streams.count {
            let stream = (reader.turn + index) % streams.count
            let available = streams[stream].end - reader.offsets[stream]
            guard available > 0 else { continue }
            readers[id]?.turn = stream + 1
            return .read(
                stream: stream, offset: reader.offsets[stream], count: Int(min(available, Int64(bytesMax))))
        }
        guard isFinished, let ending else { return .wait }
        guard !reader.hasExit else { return .end }
        readers[id]?.hasExit = true
        return .exited(ending)
    }

    /// A client has its bytes. Returns true if the event thread has to be told that there is room again.
    mutating func advance(_ id: Int, stream: Int, by count: Int) -> Bool {
        readers[id]?.offsets[stream] += Int64(count)
        guard streams[stream].isPaused else { return false }
        let fastest = readers.values.map { $0.offsets[stream] }.max() ?? streams[stream].end
        guard streams[stream].end - fastest <= Int64(Limits.streamWindowBytesMax / 2) else { return false }
        streams[stream].isPaused = false
        return true
    }
}
