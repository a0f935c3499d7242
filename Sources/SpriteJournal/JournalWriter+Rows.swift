// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Rows, one by one; everything here is within a transaction.
extension JournalWriter {
    func write(_ item: JournalMailbox.Item) throws {
        switch item {
        case .record(let record): try insert(record)
        case .span(let span): try insert(span)
        case .state(let name, let value):
            let statement = try connection.statement("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)")
            statement.bind([.text(name), .number(value)])
            try statement.run()
        case .description(let id, let name, let source):
            if facts[id]?.name == name.rawValue, facts[id]?.checkpoint == source.rawValue { return }
            facts[id] = SpriteFacts(key: facts[id]?.key, name: name.rawValue, checkpoint: source.rawValue)
            ids[name.rawValue] = id
        }
    }

    func spriteKey(_ id: SpriteID) throws -> Int64 {
        if let known = facts[id], let key = known.key, !known.isNews { return key }
        let name = facts[id]?.name
        let statement = try connection.statement(
            """
            INSERT INTO sprites (id, name) VALUES (?1, coalesce(?2, ?1))
            ON CONFLICT (id) DO UPDATE SET name = coalesce(?2, name) RETURNING key, name
            """)
        statement.bind(1, id.rawValue)
        statement.bind(2, name)
        guard try statement.step() else { throw connection.error }
        let key = statement.number(0)
        let stored = statement.text(1) ?? id.rawValue
        statement.reset()
        facts[id] = SpriteFacts(key: key, name: stored, checkpoint: facts[id]?.checkpoint, isNews: false)
        return key
    }

    func sourceKey(of tail: OutputTail, _ stream: Int) throws -> Int64 {
        let checkpoint = facts[tail.output.sprite]?.checkpoint
        if tail.checkpoint != checkpoint {
            tail.checkpoint = checkpoint
            tail.sources = tail.sources.map { _ in nil }
        }
        if let key = tail.sources[stream] { return key }
        let key = try sourceKey(
            Source(
                sprite: try spriteKey(tail.output.sprite), stream: stream == 0 ? "stdout" : "stderr",
                session: tail.info.id, service: tail.service, command: tail.info.command, checkpoint: checkpoint))
        tail.sources[stream] = key
        return key
    }

    func sourceKey(_ source: Source) throws -> Int64 {
        if let key = sourceKeys[source] { return key }
        // Sessions come and go; those of long ago are made anew if they ever speak again.
        if sourceKeys.count > 10_000 { sourceKeys = [:] }
        let key = nextSource
        nextSource += 1
        let statement = try connection.statement(
            """
            INSERT INTO sources (key, sprite, stream, session, service, command, checkpoint, first, last)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        statement.bind(1, key)
        statement.bind(2, source.sprite)
        statement.bind(3, source.stream)
        statement.bind(4, source.session)
        statement.bind(5, source.service)
        statement.bind(6, source.command.map(repaired))
        statement.bind(7, source.checkpoint)
        statement.bind(8, nextID)
        statement.bind(9, nextID)
        try statement.run()
        sourceKeys[source] = key
        return key
    }

    private static let insertion = """
        INSERT INTO records (id, time, sprite, kind, level, source, flags, trace, event, text, fields)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """

    func insert(_ piece: OutputTail.Piece, _ sprite: SpriteID, _ source: Int64, _ time: Timestamp) throws {
        let statement = try connection.statement(JournalWriter.insertion)
        let id = take(time, sprite, source, piece.bytes.count)
        statement.bind(1, id)
        statement.bind(2, time.nanoseconds)
        statement.bind(3, try spriteKey(sprite))
        statement.bind(4, Int64(RecordKind.process.rawValue))
        statement.bind(5, Int64(RecordLevel.info.rawValue))
        statement.bind(6, source)
        statement.bind(7, piece.flags)
        if isPlain(piece.bytes) {
            statement.bindInPlace(10, piece.bytes)
        } else {
            statement.bind(10, repaired(piece.bytes))
        }
        try statement.run()
    }

    /// A line of output about which more is known.
    func insertLine(
        _ text: String, _ sprite: SpriteID, _ source: Int64, _ time: Timestamp, level: RecordLevel = .info,
        fields: [(name: String, value: RecordValue)]
    ) throws {
        let statement = try connection.statement(JournalWriter.insertion)
        let fields = fieldsText(fields).map(repaired)
        statement.bind(1, take(time, sprite, source, text.utf8.count + (fields?.utf8.count ?? 0)))
        statement.bind(2, time.nanoseconds)
        statement.bind(3, try spriteKey(sprite))
        statement.bind(4, Int64(RecordKind.process.rawValue))
        statement.bind(5, Int64(level.rawValue))
        statement.bind(6, source)
        statement.bind(7, Int64(0))
        statement.bind(10, text)
        statement.bind(11, fields)
        try statement.run()
    }

    func insert(_ record: JournalRecord, command: String? = nil) throws {
        var record = record
        if record.sprite == nil, let name = record.spriteName { record.sprite = ids[name.rawValue] }
        let sprite = try record.sprite.map { ($0, try spriteKey($0)) }
        var source: Int64?
        let checkpoint = record.sprite.flatMap { facts[$0]?.checkpoint }
        if record.session != nil || record.service != nil || checkpoint != nil {
            source = try sourceKey(
                Source(
                    sprite: sprite?.1, session: record.session, service: record.service, command: command,
                    checkpoint: checkpoint))
        }
        let text = repaired(record.text)
        let fields = fieldsText(record.fields).map(repaired)
        let statement = try connection.statement(JournalWriter.insertion)
        statement.bind(1, take(record.time, record.sprite, source, text.utf8.count + (fields?.utf8.count ?? 0)))
        statement.bind(2, record.time.nanoseconds)
        statement.bind(3, sprite?.1)
        statement.bind(4, Int64(record.kind.rawValue))
        statement.bind(5, Int64(record.level.rawValue))
        statement.bind(6, source)
        statement.bind(7, Int64(0))
        statement.bind(8, record.trace?.bytes)
        statement.bind(9, record.event)
        statement.bind(10, text)
        statement.bind(11, fields)
        try statement.run()
    }

    func insert(_ span: JournalSpan) throws {
        let sprite = span.sprite ?? span.spriteName.flatMap { ids[$0.rawValue] }
        let statement = try connection.statement(
            """
            INSERT INTO spans (trace, id, parent, sprite, name, start, duration, error, attributes)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        statement.bind(1, span.trace.bytes)
        statement.bind(2, Int64(bitPattern: span.id.value))
        statement.bind(3, span.parent.map { Int64(bitPattern: $0.value) })
        statement.bind(4, try sprite.map { try spriteKey($0) })
        statement.bind(5, span.name)
        statement.bind(6, span.start.nanoseconds)
        statement.bind(7, span.duration.nanoseconds)
        statement.bind(8, span.error.map(repaired))
        statement.bind(9, fieldsText(span.attributes).map(repaired))
        try statement.run()
    }

    /// The number of the next record; notes its time, its source and its size.
    func take(_ time: Timestamp, _ sprite: SpriteID?, _ source: Int64?, _ bytes: Int) -> Int64 {
        let id = nextID
        nextID += 1
        if let source { touchedSources[source] = id }
        if let sprite { grown[sprite, default: 0] += Int64(bytes) + JournalRetention.rowBytes }
        if var current = mark, id - current.first < Mark.recordsMax {
            current.last = id
            current.earliest = min(current.earliest, time.nanoseconds)
            current.latest = max(current.latest, time.nanoseconds)
            mark = current
        } else {
            if let mark { fullMarks.append(mark) }
            mark = Mark(first: id, last: id, earliest: time.nanoseconds, latest: time.nanoseconds)
        }
        return id
    }
    func writeMarks() throws {
        for mark in fullMarks + (mark.map { [$0] } ?? []) {
            let statement = try connection.statement(
                "INSERT OR REPLACE INTO marks (first, last, earliest, latest) VALUES (?, ?, ?, ?)")
            statement.bind([.number(mark.first), .number(mark.last), .number(mark.earliest), .number(mark.latest)])
            try statement.run()
        }
        for (key, last) in touchedSources {
            let statement = try connection.statement("UPDATE sources SET last = ? WHERE key = ?")
            statement.bind([.number(last), .number(key)])
            try statement.run()
        }
        for (sprite, bytes) in grown {
            let statement = try connection.statement("UPDATE sprites SET bytes = bytes + ? WHERE id = ?")
            statement.bind([.number(bytes), .text(sprite.rawValue)])
            try statement.run()
        }
        // As long as the files are there, a daemon that comes after a crash must know that they are recorded.
        let gone = released.filter { $0.output.isGone }
        // One that was put aside is there twice.
        let names = Set(gone.map(\.name))
        for tail in gone {
            let statement = try connection.statement(
                "DELETE FROM positions WHERE sprite = ? AND session = ? AND created = ?")
            statement.bind([
                .text(tail.output.sprite.rawValue), .text(tail.info.id), .number(tail.info.createdAt.nanoseconds),
            ])
            try statement.run()
        }
        (fullMarks, touchedSources, grown, released) = ([], [:], [:], released.filter { !names.contains($0.name) })
    }
}

extension TraceID {
    var bytes: [UInt8] {
        withUnsafeBytes(of: high.bigEndian) { Array($0) } + withUnsafeBytes(of: low.bigEndian) { Array($0) }
    }
}
