// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// A JSON object of a record's fields; nil if there are none.
func fieldsText(_ fields: [(name: String, value: RecordValue)]) -> String? {
    guard !fields.isEmpty else { return nil }
    var text = "{"
    for (name, value) in fields {
        if text.utf8.count > 1 { text += "," }
        text += JSONText.quoted(name) + ":"
        switch value {
        case .text(let value): text += JSONText.quoted(value)
        case .number(let value): text += "\(value)"
        case .real(let value): text += value.isFinite ? "\(value)" : "null"
        case .truth(let value): text += value ? "true" : "false"
        case .list(let values): text += "[" + values.map(JSONText.quoted).joined(separator: ",") + "]"
        }
    }
    return text + "}"
}

extension Duration {
    /// Limited to what an integer holds: 292 years.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, isTooMuch) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return isTooMuch ? .max : product + attoseconds / 1_000_000_000
    }
}
