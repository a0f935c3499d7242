// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import SpriteDomain

/// An entry as `journalctl --output=json` prints it. It comes from inside a sprite, so nothing of it is trusted.
struct JournaldEntry: Decodable {
    var message: String
    var level: RecordLevel
    /// 0 (emergency) to 7 (debug).
    var priority: Int
    var unit: String?
    var identifier: String?
    var processID: Int64?

    private enum CodingKeys: String, CodingKey {
        case message = "MESSAGE"
        case priority = "PRIORITY"
        case unit = "_SYSTEMD_UNIT"
        case userUnit = "_SYSTEMD_USER_UNIT"
        // What systemd itself says about a unit.
        case subject = "UNIT"
        case identifier = "SYSLOG_IDENTIFIER"
        case processID = "_PID"
    }

    init?(_ line: UnsafeRawBufferPointer) {
        guard line.first == UInt8(ascii: "{"),
            let entry = try? JSONDecoder().decode(JournaldEntry.self, from: Data(line))
        else { return nil }
        self = entry
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        if let text = try? values.decode(String.self, forKey: .message) {
            message = text
        } else {
            // What is no UTF-8 comes as a list of bytes.
            message = try values.decode([UInt8].self, forKey: .message).withUnsafeBytes(repaired)
        }
        func text(_ key: CodingKeys) -> String? {
            (try? values.decode(String.self, forKey: key)).map { String($0.prefix(200)) }
        }
        priority = min(7, max(0, text(.priority).flatMap { Int($0) } ?? 6))
        level = priority <= 3 ? .error : priority == 4 ? .warning : priority == 7 ? .debug : .info
        unit = text(.subject) ?? text(.userUnit) ?? text(.unit)
        identifier = text(.identifier)
        processID = text(.processID).flatMap { Int64($0) }
    }

    var fields: [(name: String, value: RecordValue)] {
        var fields: [(name: String, value: RecordValue)] = [("priority", .number(Int64(priority)))]
        if let unit { fields.append(("unit", .text(unit))) }
        if let identifier { fields.append(("identifier", .text(identifier))) }
        if let processID { fields.append(("pid", .number(processID))) }
        return fields
    }
}

extension JournalWriter {
    /// Records entries as what they say; false if there is anything else among the lines.
    func insertEntries(_ piece: OutputTail.Piece, _ tail: OutputTail, _ time: Timestamp) throws -> Bool {
        let lines = piece.bytes.split(separator: 0x0A).map { JournaldEntry(UnsafeRawBufferPointer(rebasing: $0)) }
        guard piece.flags & RecordFlags.partial == 0, lines.allSatisfy({ $0 != nil }) else { return false }
        for case let entry? in lines {
            let source = try sourceKey(
                Source(
                    sprite: try spriteKey(tail.output.sprite), stream: "stdout", session: tail.info.id,
                    service: entry.unit ?? tail.service, checkpoint: facts[tail.output.sprite]?.checkpoint))
            try insertLine(
                repaired(entry.message), tail.output.sprite, source, time, level: entry.level, fields: entry.fields)
        }
        return true
    }
}
