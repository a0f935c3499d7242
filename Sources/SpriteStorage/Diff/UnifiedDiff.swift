// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Patches as patch(1) and `git apply` take them, with three lines of context.
enum UnifiedDiff {
    private static let context = 3

    private struct Edit {
        /// Lines taken out of the older file, and put in from the newer one.
        var old: Range<Int>
        var new: Range<Int>
    }

    /// Nil if either file is not text, which here means valid UTF-8 without zero bytes.
    static func text(_ old: [UInt8], _ new: [UInt8], oldName: String, newName: String) -> String? {
        guard !old.contains(0), !new.contains(0), let before = String(validating: old, as: UTF8.self),
            let after = String(validating: new, as: UTF8.self)
        else { return nil }
        let a = lines(before)
        let b = lines(after)
        let edits = edits(a, b)
        guard !edits.isEmpty else { return "" }
        var text = "--- \(oldName)\n+++ \(newName)\n"
        var index = 0
        while index < edits.count {
            var last = index
            while last + 1 < edits.count, edits[last + 1].old.lowerBound - edits[last].old.upperBound <= 2 * context {
                last += 1
            }
            append(Array(edits[index...last]), a, b, to: &text)
            index = last + 1
        }
        return text
    }

    /// Each with its newline, except perhaps the last.
    private static func lines(_ text: String) -> [Substring] {
        var result: [Substring] = []
        var rest = text[...]
        while !rest.isEmpty {
            let end = rest.utf8.firstIndex(of: 0x0A).map { rest.utf8.index(after: $0) } ?? rest.endIndex
            result.append(rest[..<end])
            rest = rest[end...]
        }
        return result
    }

    private static func edits(_ a: [Substring], _ b: [Substring]) -> [Edit] {
        var start = 0
        while start < a.count, start < b.count, same(a[start], b[start]) { start += 1 }
        var tail = 0
        while tail < a.count - start, tail < b.count - start, same(a[a.count - 1 - tail], b[b.count - 1 - tail]) {
            tail += 1
        }
        let old = start..<a.count - tail
        let new = start..<b.count - tail
        if old.isEmpty, new.isEmpty { return [] }
        // The time of the exact answer grows with the square.
        guard max(old.count, new.count) <= Limits.patchLinesMax else { return [Edit(old: old, new: new)] }
        let difference = Array(b[new]).difference(from: Array(a[old])) { same($0, $1) }
        var removed = Set<Int>()
        var inserted = Set<Int>()
        for change in difference {
            switch change {
            case .remove(let offset, _, _): removed.insert(offset + start)
            case .insert(let offset, _, _): inserted.insert(offset + start)
            }
        }
        var edits: [Edit] = []
        var x = start
        var y = start
        while x < old.upperBound || y < new.upperBound {
            let from = (x, y)
            while x < old.upperBound, removed.contains(x) { x += 1 }
            while y < new.upperBound, inserted.contains(y) { y += 1 }
            if (x, y) != from {
                edits.append(Edit(old: from.0..<x, new: from.1..<y))
            } else {
                x += 1
                y += 1
            }
        }
        return edits
    }

    /// By bytes: text that only looks the same is another text.
    private static func same(_ a: Substring, _ b: Substring) -> Bool { a.utf8.elementsEqual(b.utf8) }

    private static func append(_ edits: [Edit], _ a: [Substring], _ b: [Substring], to text: inout String) {
        guard let first = edits.first, let last = edits.last else { return }
        let oldStart = max(0, first.old.lowerBound - context)
        let oldEnd = min(a.count, last.old.upperBound + context)
        let newStart = first.new.lowerBound - (first.old.lowerBound - oldStart)
        let newEnd = last.new.upperBound + (oldEnd - last.old.upperBound)
        text += "@@ -\(range(oldStart, oldEnd)) +\(range(newStart, newEnd)) @@\n"
        var position = oldStart
        for edit in edits {
            for line in a[position..<edit.old.lowerBound] { append(" ", line, to: &text) }
            for line in a[edit.old] { append("-", line, to: &text) }
            for line in b[edit.new] { append("+", line, to: &text) }
            position = edit.old.upperBound
        }
        for line in a[position..<oldEnd] { append(" ", line, to: &text) }
    }

    private static func range(_ start: Int, _ end: Int) -> String {
        // An empty range is named by the line before it.
        let first = end > start ? start + 1 : start
        return end - start == 1 ? "\(first)" : "\(first),\(end - start)"
    }

    private static func append(_ sign: String, _ line: Substring, to text: inout String) {
        text += sign
        text += line
        if line.utf8.last != 0x0A { text += "\n\\ No newline at end of file\n" }
    }
}
