// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Which parts of which files one use of a layer reads, use by use: packed together, and fetched together.
///
/// As text the line `unit BYTES`, then a line for each file, `PATH` or `PATH<tab>UNITS` with the numbers of its units such
/// as `0-2,7`, and an empty line between uses. Without the first line a unit is 4 MiB.
package struct RuntimesProfile: Sendable, Hashable {
    package struct File: Sendable, Hashable {
        package var path: String
        /// Bytes, from and to multiples of the unit.
        package var ranges: RangeSet<Int>

        package init(path: String, ranges: RangeSet<Int> = RangeSet(0..<RuntimesProfile.unitBytes)) {
            self.path = path
            self.ranges = ranges
        }
    }

    /// What is written down: half of what the kernel asks for at once.
    package static let unitBytes = 64 << 10
    private static let oldUnitBytes = 4 << 20
    /// No file of a layer is larger: what is written here decides how much is fetched.
    private static let fileBytesMax = 1 << 38

    /// Files in the order in which they were first read.
    package var groups: [[File]]

    package var isEmpty: Bool { groups.isEmpty }

    package init(groups: [[File]] = []) { self.groups = groups.filter { !$0.isEmpty } }

    package init(text: String) {
        var groups: [[File]] = [[]]
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var unit = Self.oldUnitBytes
        if let first = lines.first, first.hasPrefix("unit ") {
            if let bytes = Int(first.dropFirst(5)), (1 << 12...Self.oldUnitBytes).contains(bytes) { unit = bytes }
            lines.removeFirst()
        }
        for line in lines {
            if line.isEmpty {
                groups.append([])
                continue
            }
            let parts = line.split(separator: "\t", maxSplits: 1)
            guard let path = parts.first else { continue }
            let ranges = parts.count > 1 ? Self.ranges(parts[1], unit) : RangeSet()
            groups[groups.count - 1].append(
                File(path: String(path), ranges: ranges.isEmpty ? RangeSet(0..<unit) : ranges))
        }
        self.init(groups: groups)
    }

    private static func ranges(_ text: Substring, _ unit: Int) -> RangeSet<Int> {
        var result = RangeSet<Int>()
        for part in text.split(separator: ",") {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
            guard let first = ends.first, let last = ends.last, first >= 0, first <= last, last < fileBytesMax / unit
            else { continue }
            result.insert(contentsOf: first * unit..<(last + 1) * unit)
        }
        return result
    }

    package var text: String {
        "unit \(Self.unitBytes)\n"
            + groups.map { group in group.map { Self.line($0) + "\n" }.joined() }.joined(separator: "\n")
    }

    private static func line(_ file: File) -> String {
        guard file.ranges != RangeSet(0..<unitBytes) else { return file.path }
        let list = file.ranges.ranges.map { range in
            let (first, last) = (range.lowerBound / unitBytes, (range.upperBound - 1) / unitBytes)
            return first == last ? "\(first)" : "\(first)-\(last)"
        }
        return "\(file.path)\t\(list.joined(separator: ","))"
    }
}
