// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Rows of text under headings, in columns as wide as they need to be.
struct Table {
    private var rows: [[String]]

    init(_ headings: String...) { rows = [headings] }

    init(columns: [String]) { rows = [columns.map(Self.printable)] }

    mutating func add(row cells: [String]) { rows.append(cells.map(Self.printable)) }
    mutating func add(_ cells: String...) { rows.append(cells.map(Self.printable)) }

    /// The lines, without spaces at their ends.
    var lines: [String] {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                guard column < row.count - 1 else { break }
                line += String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }

    func print() throws {
        for line in lines { try printLine(line) }
    }

    /// A table of names and values, without headings.
    static func fields(_ fields: [(String, String)]) throws {
        let width = fields.map(\.0.count).max() ?? 0
        for (name, value) in fields {
            try printLine("\(name):" + String(repeating: " ", count: width - name.count + 2) + printable(value))
        }
    }

    /// A line of a patch: as it is into a file or pipe, harmless on a terminal.
    static func printableLine(_ text: String) -> String {
        guard isTerminal(1) else { return text }
        return text.split(separator: "\t", omittingEmptySubsequences: false).map { printable(String($0)) }
            .joined(separator: "\t")
    }

    /// Text of a server must not move the cursor or colour the terminal.
    static func printable(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) }) else {
            return text
        }
        return String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) ? "?" : $0 }))
    }
}
