// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain

/// One session's output on its way into the journal. Used by the writing thread alone.
final class OutputTail {
    /// A longer line is recorded in pieces.
    static let lineBytesMax = 16 << 10
    /// With more than this to read at once, several lines make one record.
    static let blockThreshold = 64 << 10
    /// How long the beginning of a line waits for its end.
    static let partialWait: Duration = .milliseconds(200)
    static let partialWaitOfTerminal: Duration = .seconds(1)

    /// Sessions of the daemon's own that bring what an init system says.
    static let initTags: Set<String> = ["console", "journald"]

    let output: any RecordedOutput
    let info: SessionInfo
    let service: String?
    /// No command that somebody started: it has no beginning and no end.
    let isOfInit: Bool
    /// Lines are entries of journald, in JSON.
    let isJournald: Bool
    var positions: [Int64]
    /// Bytes before the position that were left out and not yet told of by a record.
    private(set) var skipped: [Int64]
    /// Until then all is left out: it printed more than may be recorded.
    var skipsUntil: ContinuousClock.Instant?
    var bucket: TokenBucket
    /// When it was looked at last.
    var lastTurn = ContinuousClock.now
    /// What has been committed of the above.
    private(set) var committed: [Int64]
    private var committedSkipped: [Int64]
    var sources: [Int64?]
    /// The checkpoint that ``sources`` are of.
    var checkpoint: String?
    var isChanged = true
    /// Its end is recorded; what is left is to let go of the files.
    var isDone = false
    /// An incomplete line was seen at this position then.
    private var partial: [(position: Int64, since: ContinuousClock.Instant)?]

    init(_ output: any RecordedOutput, positions: [Int64], rate: Int64) {
        self.output = output
        info = output.info
        let tag = info.tag ?? ""
        isOfInit = OutputTail.initTags.contains(tag)
        isJournald = tag == "journald"
        service = ServiceTag(tag)?.name ?? (isOfInit ? tag : nil)
        self.positions = positions
        committed = positions
        skipped = positions.map { _ in 0 }
        committedSkipped = skipped
        bucket = TokenBucket(rate: rate)
        sources = positions.map { _ in nil }
        partial = positions.map { _ in nil }
    }

    /// By what a later daemon knows it again.
    var name: String { "\(output.sprite).\(info.id).\(info.createdAt.nanoseconds)" }

    /// A piece of output that becomes a record.
    struct Piece {
        var bytes: UnsafeRawBufferPointer
        var flags: Int64
    }

    /// When it is to be looked at without news: an incomplete line is to be recorded as it is, or what was left out told.
    var deadline: ContinuousClock.Instant? {
        if let skipsUntil { return skipsUntil }
        let wait = info.isTerminal ? OutputTail.partialWaitOfTerminal : OutputTail.partialWait
        return partial.compactMap { $0.map { $0.since + wait } }.min()
    }

    // MARK: What is left out

    /// Where a new reader of the database would have to go on: what was left out is not recorded before a record says so.
    func recordedPosition(_ stream: Int) -> Int64 { positions[stream] - skipped[stream] }

    func skip(_ stream: Int, to position: Int64) {
        guard position > positions[stream] else { return }
        skipped[stream] += position - positions[stream]
        positions[stream] = position
        partial[stream] = nil
    }

    /// A record tells of it; returns how many bytes it was.
    func takeSkipped(_ stream: Int) -> Int64 {
        defer { skipped[stream] = 0 }
        return skipped[stream]
    }

    func commit() { (committed, committedSkipped) = (positions, skipped) }
    func rollBack() { (positions, skipped) = (committed, committedSkipped) }

    // MARK: Lines

    /// Reads what is there of one stream, up to a budget, and hands it out line by line.
    ///
    /// - Returns: Whether there is more to be had at once.
    func drain(
        _ stream: Int, to end: Int64, isLast: Bool, budget: Int, buffer: UnsafeMutableRawBufferPointer,
        emit: (Piece) throws -> Void
    ) rethrows -> Bool {
        var budget = budget
        while positions[stream] < end {
            let available = end - positions[stream]
            guard budget > 0 else { return true }
            let wanted = Int(min(available, Int64(buffer.count)))
            let count = output.read(
                stream, at: positions[stream], into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
            guard count > 0 else { return false }
            let piece = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            let inBlocks = available > OutputTail.blockThreshold
            var used = try lines(of: piece, inBlocks: inBlocks, emit)
            if used == 0 {
                // The beginning of a line.
                let isDue = partial[stream].map { $0.position == positions[stream] && hasWaited($0.since) } ?? false
                guard isLast && Int64(count) == available || isDue || count >= OutputTail.lineBytesMax else {
                    if partial[stream]?.position != positions[stream] {
                        partial[stream] = (positions[stream], .now)
                    }
                    return false
                }
                used = whole(piece, max: OutputTail.lineBytesMax)
                // The last line of a command that has ended is whole even without its newline.
                let ends = isLast && Int64(used) == available
                try emit(
                    Piece(
                        bytes: UnsafeRawBufferPointer(rebasing: piece[..<used]), flags: ends ? 0 : RecordFlags.partial))
            }
            partial[stream] = nil
            positions[stream] += Int64(used)
            budget -= used
        }
        partial[stream] = nil
        return false
    }

    private func hasWaited(_ since: ContinuousClock.Instant) -> Bool {
        .now - since >= (info.isTerminal ? OutputTail.partialWaitOfTerminal : OutputTail.partialWait)
    }

    /// Hands out the whole lines at the beginning; returns how many bytes these were, zero if there is none.
    private func lines(
        of piece: UnsafeRawBufferPointer, inBlocks: Bool, _ emit: (Piece) throws -> Void
    ) rethrows -> Int {
        guard let base = piece.baseAddress else { return 0 }
        var start = 0
        while start < piece.count {
            let window = min(piece.count - start, OutputTail.lineBytesMax)
            let newline =
                inBlocks
                ? lastNewline(UnsafeRawBufferPointer(rebasing: piece[start..<start + window]))
                : memchr(base + start, 0x0A, window).map { (base + start).distance(to: UnsafeRawPointer($0)) }
            guard let newline else {
                guard window == OutputTail.lineBytesMax else { break }
                let used = whole(UnsafeRawBufferPointer(rebasing: piece[start...]), max: window)
                try emit(
                    Piece(
                        bytes: UnsafeRawBufferPointer(rebasing: piece[start..<start + used]), flags: RecordFlags.partial
                    ))
                start += used
                continue
            }
            var end = start + newline
            let next = end + 1
            if end > start, piece[end - 1] == 0x0D { end -= 1 }
            let text = UnsafeRawBufferPointer(rebasing: piece[start..<end])
            let isBlock = inBlocks && memchr(base + start, 0x0A, end - start) != nil
            try emit(Piece(bytes: text, flags: isBlock ? RecordFlags.block : 0))
            start = next
        }
        return start
    }

    /// How many bytes of the beginning end at a whole character.
    private func whole(_ piece: UnsafeRawBufferPointer, max: Int) -> Int {
        let count = min(piece.count, max)
        guard count > 4 else { return count }
        for back in 0..<4 {
            let byte = piece[count - 1 - back]
            if byte & 0x80 == 0 { return count }
            guard byte & 0xC0 == 0xC0 else { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2
            return length > back + 1 ? count - 1 - back : count
        }
        return count
    }
}
