// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Where an entry lies in a journal, as `journalctl --output=json` says it: `"__CURSOR":"s=…;i=…;b=…;m=…;t=…;x=…"`.
package enum JournaldCursor {
    private static let key = Array(#""__CURSOR""#.utf8)
    private static let bytesMax = 512

    /// The cursor of the last of these lines; nil if it has none.
    package static func last(of lines: ArraySlice<UInt8>) -> String? {
        let newline = lines.lastIndex(of: UInt8(ascii: "\n"))
        let line = lines[(newline.map { $0 + 1 } ?? lines.startIndex)...]
        var index = line.startIndex
        while index + key.count < line.endIndex {
            defer { index += 1 }
            guard line[index] == key[0], line[index..<index + key.count].elementsEqual(key) else { continue }
            // Within a text the quotes would be escaped, and after a text of these letters comes no colon.
            let rest = line[(index + key.count)...].drop { $0 == UInt8(ascii: " ") }
            guard rest.first == UInt8(ascii: ":") else { continue }
            let value = rest.dropFirst().drop { $0 == UInt8(ascii: " ") }
            guard value.first == UInt8(ascii: "\"") else { continue }
            return checked(String(decoding: value.dropFirst().prefix { $0 != UInt8(ascii: "\"") }, as: UTF8.self))
        }
        return nil
    }

    /// The text if it looks like a cursor: it becomes part of a command line.
    package static func checked(_ text: String) -> String? {
        let isCursor =
            text.utf8.count <= bytesMax && text.hasPrefix("s=")
            && text.utf8.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || $0 == UInt8(ascii: "=")
                    || $0 == UInt8(ascii: ";")
            }
        return isCursor ? text : nil
    }
}
