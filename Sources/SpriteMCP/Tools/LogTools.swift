// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

extension Toolbox {
    /// What one answer holds of lines of the journal, so that a long line does not crowd out everything else.
    private static let lineBytesMax = 2000
    private static let pageBytesMax = 32 << 10

    var logTools: [Tool] {
        guard let journal = world.journal else { return [] }
        return [
            Tool(
                name: "read_logs", title: "Read the journal",
                about: "Reads what was recorded about the sprite, newest first: output of commands and services, "
                    + "checkpoints and restores, starts and stops, calls of its API. At most 32 KiB. Changes nothing.",
                effect: .reads,
                parameters: spriteParameter + [
                    .text("words", "Only lines that hold all these words.", bytesMax: 1000),
                    Parameter(
                        name: "kind", kind: .choice(RecordKind.allCases.map(\.text)),
                        about: "Only records of this kind."),
                    .text("service", "Only output of this service.", bytesMax: 63),
                    .number("since_seconds", 1...31_536_000, nil, "Only what is not older than this."),
                    .number("limit", 1...1000, 100, "Lines at most."),
                    .text("cursor", "next_cursor of the call before, for what is older.", bytesMax: 40),
                ]
            ) { call in
                let arguments = call.arguments
                var filter = RecordFilter()
                let name = try await sprite(arguments)
                filter.words = arguments.text("words")
                if let words = filter.words,
                    !words.unicodeScalars.contains(where: {
                        $0.properties.isAlphabetic || $0.properties.numericType != nil
                    })
                {
                    throw ToolFailure("'words' has no letters and no digits")
                }
                if let kind = arguments.text("kind").flatMap(RecordKind.init(text:)) { filter.kinds = [kind] }
                filter.service = arguments.text("service")
                if let seconds = arguments.number("since_seconds") {
                    filter.since = Timestamp(nanoseconds: Timestamp.now().nanoseconds - Int64(seconds) * 1_000_000_000)
                }
                let cursor = try arguments.text("cursor").map { text in
                    guard let cursor = JournalCursor(text) else {
                        throw ToolFailure("'cursor' is not one that an earlier call gave; call again without it")
                    }
                    return cursor
                }
                let page = try await journal.records(
                    sprite: try await world.control.get(name).sprite.id, filter: filter, from: cursor,
                    limit: arguments.number("limit") ?? 100)
                return answer(page)
            }
        ]
    }

    private func answer(_ page: RecordPage) -> ToolResult {
        var bytes = 0
        var lines: [JSON] = []
        var next = page.hasMore ? page.next : nil
        for record in page.records {
            let text = String(decoding: record.text.utf8.prefix(Toolbox.lineBytesMax), as: UTF8.self)
            bytes += text.utf8.count + 100
            guard bytes <= Toolbox.pageBytesMax || lines.isEmpty else {
                // From this one on: older records lie before the one that was shown last.
                next = page.records[lines.count - 1].cursor
                break
            }
            var line: [String: JSON] = [
                "time": record.time.json, "kind": record.kind.text.json, "text": text.json,
            ]
            for (name, value) in [
                ("event", record.event), ("stream", record.stream), ("service", record.service),
                ("session", record.session),
            ] {
                if let value { line[name] = value.json }
            }
            lines.append(.object(line))
        }
        var answer: [String: JSON] = ["records": .list(lines)]
        if let next { answer["next_cursor"] = "\(next)".json }
        return ToolResult(.object(answer))
    }
}
