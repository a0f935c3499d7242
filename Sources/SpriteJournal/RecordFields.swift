// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// A JSON object of a record's fields; nil if there are none.
func fieldsText(_ fields: [(name: String, value: RecordValue)]) -> String? {
    guard !fields.isEmpty else { return nil }
    var text = "{"
    for (name, value) in fields {
        if text.utf8.count > 1 { text += "," }
        text += quoted(name) + ":"
        switch value {
        case .text(let value): text += quoted(value)
        case .number(let value): text += "\(value)"
        case .real(let value): text += value.isFinite ? "\(value)" : "null"
        case .truth(let value): text += value ? "true" : "false"
        case .list(let values): text += "[" + values.map(quoted).joined(separator: ",") + "]"
        }
    }
    return text + "}"
}

/// A string as JSON writes it.
func quoted(_ text: String) -> String {
    guard text.utf8.contains(where: { $0 < 0x20 || $0 == 0x22 || $0 == 0x5C || $0 == 0x7F }) else {
        return "\"\(text)\""
    }
    var result: [UInt8] = [0x22]
    let digits = Array("0123456789abcdef".utf8)
    for byte in text.utf8 {
        switch byte {
        case 0x22, 0x5C: result += [0x5C, byte]
        case 0x0A: result += [0x5C, 0x6E]
        case ..<0x20, 0x7F:
            result += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        default: result.append(byte)
        }
    }
    result.append(0x22)
    return String(decoding: result, as: UTF8.self)
}

extension Duration {
    /// Limited to what an integer holds: 292 years.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, isTooMuch) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return isTooMuch ? .max : product + attoseconds / 1_000_000_000
    }
}
