// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// Prints rows as they come: a table for people, or one JSON array at the end.
final class Report: @unchecked Sendable {
    // Used by the one task that measures; a lock would protect nothing.
    private let isJSON: Bool
    private var rows: [Row] = []

    init(isJSON: Bool) {
        self.isJSON = isJSON
        if !isJSON {
            write(
                padded("operation", 44) + right("median", 10) + right("p95", 10) + right("runs", 6)
                    + "  raw operation, bars")
        }
    }

    var hasFailures: Bool { rows.contains { !$0.passes } }

    func add(_ row: Row) {
        rows.append(row)
        if isJSON { return progress("\(row.name): \(number(row.samples.median)) \(row.unit)") }
        var line = padded(row.name, 44) + right(number(row.samples.median), 10) + right(number(row.samples.p95), 10)
        line += right("\(row.samples.values.count)", 6) + "  \(row.unit)"
        if let name = row.rawName, let raw = row.raw {
            line +=
                "; \(name) \(number(raw.median)) (p95 \(number(raw.p95)), ratio \(number(row.samples.median / raw.median)))"
        }
        for bar in row.bars {
            let sign = bar.direction == .atMost ? "≤" : "≥"
            let mark = bar.passes(row.samples.median) ? "pass" : "FAIL"
            line += "; \(mark) \(sign) \(number(bar.limit))" + (bar.text.isEmpty ? "" : " (\(bar.text))")
        }
        if let note = row.note { line += "; \(note)" }
        if !row.isMeasured { line += "; FAIL: this is not what was to be measured" }
        write(line)
    }

    /// A line for the one who waits.
    func progress(_ text: String) { print(text, to: STDERR_FILENO) }

    func finish() {
        guard isJSON else {
            let failed = rows.filter { !$0.passes }.count
            return write("\(rows.count - failed) of \(rows.count) rows are within their bars")
        }
        write("[\n" + rows.map { "  " + JSONValue($0).text }.joined(separator: ",\n") + "\n]")
    }

    private func write(_ line: String) { print(line, to: STDOUT_FILENO) }

    private func print(_ line: String, to descriptor: Int32) {
        var text = line + "\n"
        text.withUTF8 { _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}

extension JSONValue {
    init(_ row: Row) {
        var object: [String: JSONValue] = [
            "name": .string(row.name), "unit": .string(row.unit), "median": .number(row.samples.median),
            "p95": .number(row.samples.p95), "runs": .number(Double(row.samples.values.count)),
            "pass": .bool(row.passes), "measured": .bool(row.isMeasured),
            "bars": .array(
                row.bars.map {
                    .object([
                        "kind": .string($0.direction == .atMost ? "at_most" : "at_least"), "limit": .number($0.limit),
                        "text": .string($0.text), "pass": .bool($0.passes(row.samples.median)),
                    ])
                }),
        ]
        if let name = row.rawName, let raw = row.raw {
            object["raw"] = .object([
                "name": .string(name), "median": .number(raw.median), "p95": .number(raw.p95),
                "ratio": .number(row.samples.median / raw.median),
            ])
        }
        if let note = row.note { object["note"] = .string(note) }
        self = .object(object)
    }
}

private func number(_ value: Double) -> String {
    guard value.isFinite else { return "-" }
    let digits = abs(value) < 10 ? 100.0 : 10.0
    let rounded = (value * digits).rounded() / digits
    return abs(rounded) >= 1000 ? "\(Int(rounded))" : "\(rounded)"
}

private func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
}

private func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(1, width - text.count)) + text
}
