// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Output of sessions; all of it within a transaction but ``open``.
extension JournalWriter {
    func open(_ output: any RecordedOutput, _ start: CommandStart?, _ time: Timestamp, _ trace: TraceID?) {
        let info = output.info
        let tag = info.tag ?? ""
        // What the daemon runs for itself, such as a file transfer, is no output of the sprite.
        // What its init system says is.
        let isOfInit = OutputTail.initTags.contains(tag)
        guard tag.isEmpty || ServiceTag(tag) != nil || isOfInit else { return output.release() }
        let streams = info.isTerminal ? 1 : 2
        var positions = [Int64](repeating: 0, count: streams)
        var isKnown = false
        if start == nil,
            let statement = try? connection.statement(
                "SELECT stream, position, done FROM positions WHERE sprite = ? AND session = ? AND created = ?")
        {
            statement.bind([.text(output.sprite.rawValue), .text(info.id), .number(info.createdAt.nanoseconds)])
            var isDone = false
            while (try? statement.step()) == true {
                let stream = Int(statement.number(0))
                if positions.indices.contains(stream) { positions[stream] = statement.number(1) }
                isKnown = true
                if statement.number(2) != 0 { isDone = true }
            }
            statement.reset()
            if isDone {
                released.append(OutputTail(output, positions: positions, rate: intake.bytesPerSecondOfSession))
                return output.release()
            }
            // Never started, or so short that its beginning was not recorded either: nothing is known to be missing.
            let extent = output.look()
            if !isKnown, extent.ending == .lost, extent.streams.allSatisfy({ $0.isEmpty }) { return output.release() }
        }
        let tail = OutputTail(output, positions: positions, rate: intake.bytesPerSecondOfSession)
        tails[ObjectIdentifier(output)] = tail
        newlyOpened.append(Opened(tail: tail, start: start, time: time, trace: trace, isKnown: isKnown))
    }

    func writeOpened(_ opened: Opened) throws {
        guard !opened.isKnown, !opened.tail.isOfInit else { return }
        let (tail, info) = (opened.tail, opened.tail.info)
        for stream in tail.positions.indices { try savePosition(tail, stream, done: false) }
        var fields: [(name: String, value: RecordValue)] = []
        if let start = opened.start {
            fields.append(("argv", .list(start.arguments)))
            if let user = start.user { fields.append(("user", .text(user))) }
        }
        fields.append(("directory", .text(info.directory)))
        if info.isTerminal { fields.append(("tty", true)) }
        if info.processID > 0 { fields.append(("pid", .number(Int64(info.processID)))) }
        var record = JournalRecord(
            "exec.started", kind: .process, sprite: tail.output.sprite, info.command, session: info.id,
            service: tail.service, fields: fields, time: opened.start == nil ? info.createdAt : opened.time,
            trace: opened.trace)
        record.text = info.command
        try insert(record, command: info.command)
    }

    private func savePosition(_ tail: OutputTail, _ stream: Int, done: Bool) throws {
        let statement = try connection.statement(
            """
            INSERT INTO positions (sprite, session, created, stream, position, done) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET position = excluded.position, done = excluded.done
            """)
        statement.bind([
            .text(tail.output.sprite.rawValue), .text(tail.info.id), .number(tail.info.createdAt.nanoseconds),
            .number(Int64(stream)), .number(tail.recordedPosition(stream)), .number(done ? 1 : 0),
        ])
        try statement.run()
    }

    /// Output that was there before a sprite's state became that of another checkpoint.
    func outputBefore(_ item: JournalMailbox.Item) -> [OutputTail] {
        guard case .description(let id, _, let source) = item, let facts = facts[id],
            facts.checkpoint != source.rawValue
        else { return [] }
        return tails.values.filter { $0.output.sprite == id && !$0.isDone }
    }

    /// Records what a session printed; true if that was all.
    func drain(_ tail: OutputTail) throws -> Bool {
        let extent = tail.output.look()
        let isLast = extent.ending != nil
        tail.lastTurn = .now
        var hasMore = false
        for stream in tail.positions.indices where stream < extent.streams.count {
            let range = extent.streams[stream]
            let begin = tail.recordedPosition(stream)
            // It came faster than it could be recorded for longer than files keep it.
            tail.skip(stream, to: range.lowerBound)
            // Read late, it was still printed before the end.
            let time = isLast ? min(now(), extent.endedAt ?? now()) : now()
            let more = try record(tail, stream, to: range.upperBound, isLast: isLast, time: time)
            hasMore = hasMore || more
            if tail.recordedPosition(stream) != begin, !isLast || more { try savePosition(tail, stream, done: false) }
        }
        tail.isChanged = hasMore
        guard isLast, !hasMore, let ending = extent.ending else { return false }
        if !tail.isOfInit { try writeEnd(tail, ending, extent) }
        for stream in tail.positions.indices { try savePosition(tail, stream, done: true) }
        return true
    }

    /// Records what there is of one stream, as far as it may; true if there is more to be had at once.
    private func record(
        _ tail: OutputTail, _ stream: Int, to end: Int64, isLast: Bool, time: Timestamp
    ) throws -> Bool {
        guard intake.recordsOutput else {
            tail.positions[stream] = end
            return false
        }
        guard tail.positions[stream] < end || isLast else { return false }
        var allowance = self.allowance(tail)
        if allowance == 0 {
            tail.skip(stream, to: end - JournalIntake.keptBytes)
            guard isLast else { return false }
            allowance = JournalIntake.keptBytes
        }
        try writeSkipped(tail, stream)
        let begin = tail.positions[stream]
        var run = BinaryRun()
        func endRun() throws {
            guard run.bytes > 0 else { return }
            try insertLine(
                run.text, tail.output.sprite, try sourceKey(of: tail, stream), time,
                fields: [("binary_bytes", .number(Int64(run.bytes)))])
            run = BinaryRun()
        }
        func write(_ bytes: UnsafeRawBufferPointer.SubSequence, flags: Int64) throws {
            try endRun()
            let piece = OutputTail.Piece(bytes: UnsafeRawBufferPointer(rebasing: bytes), flags: flags)
            try insert(piece, tail.output.sprite, try sourceKey(of: tail, stream), time)
        }
        let more = try tail.drain(
            stream, to: end, isLast: isLast, budget: min(JournalWriter.streamBudget, Int(clamping: allowance)),
            buffer: buffer
        ) { piece in
            if tail.isJournald, try insertEntries(piece, tail, time) { return }
            guard !isPlain(piece.bytes), isBinary(piece.bytes) else {
                return try write(piece.bytes[...], flags: piece.flags)
            }
            let part = binaryPart(piece.bytes)
            if part.lowerBound > 0 { try write(piece.bytes[..<(part.lowerBound - 1)], flags: RecordFlags.block) }
            run.add(UnsafeRawBufferPointer(rebasing: piece.bytes[part]))
            if part.upperBound < piece.bytes.count {
                try write(piece.bytes[(part.upperBound + 1)...], flags: RecordFlags.block)
            }
        }
        try endRun()
        let used = tail.positions[stream] - begin
        tail.bucket.take(used)
        bucket.take(used)
        budget -= Int(used)
        return more
    }

    /// How many bytes of a session may be recorded now; none for a while after it was too much.
    private func allowance(_ tail: OutputTail) -> Int64 {
        let now = ContinuousClock.now
        if let until = tail.skipsUntil {
            guard now >= until else { return 0 }
            tail.skipsUntil = nil
        }
        var allowance = tail.bucket.available(now)
        if allowance < tail.bucket.capacity - JournalIntake.spared { allowance = min(allowance, bucket.available(now)) }
        guard allowance < JournalIntake.rateMin else { return allowance }
        tail.skipsUntil = now + JournalIntake.pause
        return 0
    }

    private func writeSkipped(_ tail: OutputTail, _ stream: Int) throws {
        let count = tail.takeSkipped(stream)
        guard count > 0 else { return }
        shared.metrics.count("dropped_bytes", Int(count))
        let name = tail.info.isTerminal ? "output" : stream == 0 ? "stdout" : "stderr"
        try insert(
            JournalRecord(
                "output.dropped", kind: .process, level: .warning, sprite: tail.output.sprite,
                "\(count) bytes of \(name) came too fast to be recorded",
                session: tail.info.id, service: tail.service,
                fields: [("bytes", .number(count)), ("stream", .text(stream == 0 ? "stdout" : "stderr"))], trace: nil),
            command: tail.info.command)
    }

    private func writeEnd(_ tail: OutputTail, _ ending: ExitStatus, _ extent: OutputExtent) throws {
        let time = extent.endedAt ?? .now()
        var fields: [(name: String, value: RecordValue)] = [("exit_code", .number(Int64(ending.code)))]
        var text = "exit \(ending.code)"
        switch ending {
        case .exited: break
        case .signaled(let number):
            fields.append(("signal", .number(Int64(number))))
            text = "killed by signal \(number)"
        case .lost:
            fields.append(("lost", true))
            text = "ended with the machine, or unseen"
        }
        fields.append(("duration_ns", .number(max(0, time.nanoseconds - tail.info.createdAt.nanoseconds))))
        for (name, range) in zip(["stdout_bytes", "stderr_bytes"], extent.streams) {
            fields.append((name, .number(range.upperBound)))
        }
        try insert(
            JournalRecord(
                "exec.ended", kind: .process, level: ending == .exited(0) ? .info : .warning,
                sprite: tail.output.sprite, text, session: tail.info.id, service: tail.service, fields: fields,
                time: time, trace: nil), command: tail.info.command)
    }
}
