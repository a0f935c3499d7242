// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import Sprites

/// Prints records, for people or for programs.
struct RecordPrinter: Sendable {
    let isTerminal: Bool
    let isRaw: Bool
    let isJSON: Bool
    let showsSprite: Bool

    func print(_ record: API.LogRecord) throws {
        if isJSON {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return try printLine(String(decoding: try encoder.encode(record), as: UTF8.self))
        }
        try printLine(line(record))
    }

    func line(_ record: API.LogRecord) -> String {
        let text = isRaw || !isTerminal ? record.text : visible(record.text)
        var source = record.service ?? record.event ?? record.session.map { "#\($0)" } ?? record.kind
        if record.event != nil, let session = record.session { source += " #\(session)" }
        if showsSprite { source = "\(record.sprite ?? "sprited") \(source)" }
        let time = shortTime(record.time, isTerminal)
        guard isTerminal else { return "\(time) \(source) \(text)" }
        let colour =
            record.level == "error" ? "31" : record.level == "warn" ? "33" : record.stream == "stderr" ? "35" : nil
        let body = record.event != nil && colour == nil ? "\u{1B}[36m\(text)\u{1B}[0m" : painted(text, colour)
        return "\u{1B}[2m\(time) \(visible(source))\u{1B}[0m \(body)"
    }

    private func painted(_ text: String, _ colour: String?) -> String {
        colour.map { "\u{1B}[\($0)m\(text)\u{1B}[0m" } ?? text
    }
}

/// Control characters as text, so that output of a sprite cannot move the cursor, change the title or worse.
func visible(_ text: String) -> String {
    guard
        text.unicodeScalars.contains(where: { $0.value < 0x20 && $0.value != 9 || (0x7F..<0xA0).contains($0.value) })
    else { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 9: result.append(scalar)
        case ..<0x20:
            result.append(contentsOf: "^\(Character(Unicode.Scalar(UInt8(scalar.value + 0x40))))".unicodeScalars)
        case 0x7F: result.append(contentsOf: "^?".unicodeScalars)
        case 0x80..<0xA0: result.append("\u{FFFD}")
        default: result.append(scalar)
        }
    }
    return String(result)
}

/// On a terminal how long ago, or the time of day; else the whole time.
func shortTime(_ text: String, _ isTerminal: Bool) -> String {
    guard isTerminal, let then = API.TimeText.nanoseconds(text) else { return text }
    var seconds = time_t(then / 1_000_000_000)
    let age = time(nil) - seconds
    if age < 60 {
        let label = "\(max(0, age)) s ago"
        return String(repeating: " ", count: max(0, 8 - label.count)) + label
    }
    var parts = tm()
    localtime_r(&seconds, &parts)
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let clock = "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
    return age < 12 * 3600 ? clock : "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) \(clock)"
}
