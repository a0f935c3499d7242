// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import SpriteAPI
import SpriteDomain

/// Records as JSON, written by hand: following readers take a hundred thousand a second.
enum RecordText {
    static func write(_ record: RecordView, to buffer: inout ByteBuffer) {
        buffer.writeString("{\"id\":\"\(record.cursor)\",\"cursor\":\"\(record.cursor.next)\",\"time\":\"")
        buffer.writeString(API.TimeText.text(nanoseconds: record.time.nanoseconds))
        buffer.writeString("\",\"kind\":\"\(record.kind.text)\",\"level\":\"\(record.level.text)\"")
        field("sprite", record.spriteName, &buffer)
        if let id = record.sprite { buffer.writeString(",\"sprite_id\":\"\(id)\"") }
        field("event", record.event, &buffer)
        field("stream", record.stream, &buffer)
        field("session", record.session, &buffer)
        field("service", record.service, &buffer)
        field("command", record.command, &buffer)
        field("checkpoint", record.checkpoint, &buffer)
        if let trace = record.trace { buffer.writeString(",\"trace_id\":\"\(trace)\"") }
        field("text", record.text, &buffer)
        if let fields = record.fields { buffer.writeString(",\"fields\":\(fields)") }
        if record.isPartial { buffer.writeString(",\"partial\":true") }
        buffer.writeString("}")
    }

    static func write(_ view: SpanView, to buffer: inout ByteBuffer) {
        let span = view.span
        buffer.writeString("{\"span_id\":\"\(span.id)\"")
        if let parent = span.parent { buffer.writeString(",\"parent_id\":\"\(parent)\"") }
        field("name", span.name, &buffer)
        field("sprite", view.spriteName, &buffer)
        buffer.writeString(",\"start\":\"\(API.TimeText.text(nanoseconds: span.start.nanoseconds))\"")
        buffer.writeString(",\"duration_ms\":\(span.duration.milliseconds)")
        field("error", span.error, &buffer)
        if let attributes = view.attributes { buffer.writeString(",\"attributes\":\(attributes)") }
        buffer.writeString("}")
    }

    static func value(_ value: SQLAnswer.Value) -> String {
        switch value {
        case .null: "null"
        case .integer(let number): "\(number)"
        case .real(let number): number.isFinite ? "\(number)" : "null"
        case .text(let text): JSONText.quoted(text)
        case .blob(let bytes): JSONText.quoted(Data(bytes).base64EncodedString())
        }
    }

    private static func field(_ name: String, _ value: String?, _ buffer: inout ByteBuffer) {
        guard let value else { return }
        buffer.writeString(",\"\(name)\":")
        buffer.writeString(JSONText.quoted(value))
    }
}
