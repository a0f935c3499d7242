// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What a record of the journal is about.
package enum RecordKind: UInt8, Sendable, Hashable, CaseIterable {
    /// Output of processes, and that commands started and ended.
    case process = 1
    /// Calls of the API.
    case api = 2
    /// Checkpoints, restores and forks.
    case checkpoint = 3
    /// Everything else in the life of a sprite or of the daemon.
    case system = 4

    package var text: String {
        switch self {
        case .process: "process"
        case .api: "api"
        case .checkpoint: "checkpoint"
        case .system: "system"
        }
    }

    package init?(text: String) {
        guard let kind = RecordKind.allCases.first(where: { $0.text == text }) else { return nil }
        self = kind
    }
}

package enum RecordLevel: UInt8, Sendable, Hashable, CaseIterable, Comparable {
    case debug = 1
    case info = 2
    case warning = 3
    case error = 4

    package static func < (a: RecordLevel, b: RecordLevel) -> Bool { a.rawValue < b.rawValue }

    package var text: String {
        switch self {
        case .debug: "debug"
        case .info: "info"
        case .warning: "warn"
        case .error: "error"
        }
    }

    /// Takes `warning` for `warn` as well.
    package init?(text: String) {
        let text = text == "warning" ? "warn" : text
        guard let level = RecordLevel.allCases.first(where: { $0.text == text }) else { return nil }
        self = level
    }
}

/// A value of a record's fields or of a span's attributes.
package enum RecordValue: Sendable, Hashable {
    case text(String)
    case number(Int64)
    case real(Double)
    case truth(Bool)
    case list([String])
}

extension RecordValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    package init(stringLiteral value: String) { self = .text(value) }
    package init(integerLiteral value: Int64) { self = .number(value) }
    package init(booleanLiteral value: Bool) { self = .truth(value) }
}

/// Something that happened. Output of processes is not recorded through this: the journal reads it from the files of
/// sessions by itself.
package struct JournalRecord: Sendable {
    package var time: Timestamp
    /// Nil for what concerns no sprite.
    package var sprite: SpriteID?
    /// Where only the name is at hand; used if ``sprite`` is nil.
    package var spriteName: SpriteName?
    package var kind: RecordKind
    package var level: RecordLevel
    /// What happened, as a stable word: `sprite.created`, `exec.started`, `policy.refused`.
    package var event: String
    /// For people, one line.
    package var text: String
    package var session: String?
    package var service: String?
    package var fields: [(name: String, value: RecordValue)]
    package var trace: TraceID?

    /// - Parameter trace: The request under way in this task, unless told otherwise.
    package init(
        _ event: String, kind: RecordKind = .system, level: RecordLevel = .info, sprite: SpriteID? = nil,
        _ text: String, session: String? = nil, service: String? = nil,
        fields: [(name: String, value: RecordValue)] = [], time: Timestamp = .now(),
        trace: TraceID? = TraceContext.current?.trace
    ) {
        self.time = time
        self.sprite = sprite
        self.kind = kind
        self.level = level
        self.event = event
        self.text = text
        self.session = session
        self.service = service
        self.fields = fields
        self.trace = trace
    }
}

/// Where records go. Every call returns at once and never fails: what cannot be kept is counted, and the count recorded.
package protocol JournalRecorder: Sendable {
    func record(_ record: JournalRecord)
    func record(_ span: JournalSpan)
    /// From now on records of this sprite carry this name and the checkpoint its live state descends from.
    func describe(_ sprite: SpriteID, name: SpriteName, source: CheckpointID)
}

/// Records nothing.
package struct NoJournal: JournalRecorder {
    package init() {}
    package func record(_ record: JournalRecord) {}
    package func record(_ span: JournalSpan) {}
    package func describe(_ sprite: SpriteID, name: SpriteName, source: CheckpointID) {}
}
