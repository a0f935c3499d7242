// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteSystem

/// Names everything that one request caused: 128 bits, never zero; 32 hexadecimal digits as text.
package struct TraceID: Sendable, Hashable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init?(high: UInt64, low: UInt64) {
        guard high | low != 0 else { return nil }
        self.high = high
        self.low = low
    }

    private init() {
        high = .random(in: 1 ... .max)
        low = .random(in: 1 ... .max)
    }

    package static func random() -> TraceID { TraceID() }

    /// Reads 32 lower-case hexadecimal digits.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.count == 32, let high = hexadecimal(text.utf8.prefix(16)),
            let low = hexadecimal(text.utf8.suffix(16))
        else { return nil }
        self.init(high: high, low: low)
    }

    package var description: String { digits(high) + digits(low) }
}

/// Names one step of a trace: 64 bits, never zero.
package struct SpanID: Sendable, Hashable, CustomStringConvertible {
    package let value: UInt64

    package init?(value: UInt64) {
        guard value != 0 else { return nil }
        self.value = value
    }

    private init() { value = .random(in: 1 ... .max) }

    package static func random() -> SpanID { SpanID() }

    /// Reads 16 lower-case hexadecimal digits.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.count == 16, let value = hexadecimal(text.utf8[...]) else { return nil }
        self.init(value: value)
    }

    package var description: String { digits(value) }
}

/// Which step of which trace a task works for; child tasks and tasks made with `Task {` inherit it.
package struct TraceContext: Sendable, Hashable {
    @TaskLocal package static var current: TraceContext?

    package var trace: TraceID
    package var span: SpanID

    package init(trace: TraceID, span: SpanID) {
        self.trace = trace
        self.span = span
    }

    /// Reads a `traceparent` header of W3C Trace Context; nil if it is none, as the standard asks.
    package init?(traceparent text: String) {
        let parts = text.utf8.split(separator: 0x2D, omittingEmptySubsequences: false).map(Substring.init)
        guard parts.count >= 4, parts[0].utf8.count == 2, hexadecimal(parts[0].utf8[...]) != nil, parts[0] != "ff",
            parts[0] != "00" || parts.count == 4, let trace = TraceID(parts[1]), let span = SpanID(parts[2]),
            parts[3].utf8.count == 2, hexadecimal(parts[3].utf8[...]) != nil
        else { return nil }
        self.init(trace: trace, span: span)
    }

    /// Always with the flag `sampled`: every request is recorded.
    package var traceparent: String { "00-\(trace)-\(span)-01" }
}

/// One step of a trace that has ended.
package struct JournalSpan: Sendable {
    package var trace: TraceID
    package var id: SpanID
    package var parent: SpanID?
    /// What was done, as a stable word: `storage.snapshot`.
    package var name: String
    package var sprite: SpriteID?
    /// Where only the name is at hand; used if ``sprite`` is nil.
    package var spriteName: SpriteName?
    package var start: Timestamp
    package var duration: Duration
    /// What went wrong, if something did.
    package var error: String?
    package var attributes: [(name: String, value: RecordValue)]

    package init(
        trace: TraceID, id: SpanID, parent: SpanID?, name: String, sprite: SpriteID?, start: Timestamp,
        duration: Duration, error: String? = nil, attributes: [(name: String, value: RecordValue)] = []
    ) {
        self.trace = trace
        self.id = id
        self.parent = parent
        self.name = name
        self.sprite = sprite
        self.start = start
        self.duration = duration
        self.error = error
        self.attributes = attributes
    }
}

extension JournalRecorder {
    /// Runs a step of the trace under way and records how long it took; without a trace it is only run.
    package func span<Value>(
        _ name: String, sprite: SpriteID? = nil, isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Value
    ) async rethrows -> Value {
        guard let parent = TraceContext.current else { return try await body() }
        let context = TraceContext(trace: parent.trace, span: .random())
        let (time, start) = (Timestamp.now(), ContinuousClock.now)
        func end(_ error: (any Error)?) {
            record(
                JournalSpan(
                    trace: context.trace, id: context.span, parent: parent.span, name: name, sprite: sprite,
                    start: time, duration: ContinuousClock.now - start,
                    error: error.map { ($0 as? SpriteError)?.message ?? "\($0)" }))
        }
        do {
            let value = try await TraceContext.$current.withValue(context) {
                try await CallObserver.$current.withValue(observer(context, sprite), operation: body)
            }
            end(nil)
            return value
        } catch {
            end(error)
            throw error
        }
    }
}

extension JournalRecorder {
    /// Records single calls as steps of this one.
    private func observer(_ context: TraceContext, _ sprite: SpriteID?) -> CallObserver {
        CallObserver { name, subject, took, error in
            let nanoseconds = Int64(took / .nanoseconds(1))
            record(
                JournalSpan(
                    trace: context.trace, id: .random(), parent: context.span, name: name, sprite: sprite,
                    start: Timestamp(nanoseconds: Timestamp.now().nanoseconds - nanoseconds), duration: took,
                    error: error,
                    attributes: subject.map { [("subject", .text(String($0.prefix(200))))] } ?? []))
        }
    }
}

private func hexadecimal(_ digits: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for digit in digits {
        switch digit {
        case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
        case 0x61...0x66: value = value << 4 | UInt64(digit - 0x57)
        default: return nil
        }
    }
    return value
}

private func digits(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
}
