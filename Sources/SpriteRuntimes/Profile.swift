// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Which parts of which files one use of a layer reads, use by use: packed together, and fetched together.
///
/// As text a line for each file, `PATH` or `PATH<tab>BLOCKS` with the numbers of its 4 MiB blocks such as `0-2,7`, and an
/// empty line between uses.
package struct RuntimesProfile: Sendable, Hashable {
    package struct File: Sendable, Hashable {
        package var path: String
        /// In ascending order.
        package var blocks: [Int]

        package init(path: String, blocks: [Int] = [0]) {
            self.path = path
            self.blocks = blocks
        }
    }

    /// Files in the order in which they were first read.
    package var groups: [[File]]

    package var isEmpty: Bool { groups.isEmpty }

    package init(groups: [[File]] = []) { self.groups = groups.filter { !$0.isEmpty } }

    package init(text: String) {
        var groups: [[File]] = [[]]
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.isEmpty {
                groups.append([])
                continue
            }
            let parts = line.split(separator: "\t", maxSplits: 1)
            let blocks = parts.count > 1 ? Self.blocks(parts[1]) : [0]
            groups[groups.count - 1].append(File(path: String(parts[0]), blocks: blocks.isEmpty ? [0] : blocks))
        }
        self.init(groups: groups)
    }

    /// No file of a layer has more: what is written here decides how much is fetched.
    private static let blockMax = 1 << 16

    private static func blocks(_ text: Substring) -> [Int] {
        var result: Set<Int> = []
        for part in text.split(separator: ",") {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
            guard let first = ends.first, let last = ends.last, first >= 0, first <= last, last < blockMax else {
                continue
            }
            result.formUnion(first...last)
        }
        return result.sorted()
    }

    package var text: String {
        groups.map { group in group.map { Self.line($0) + "\n" }.joined() }.joined(separator: "\n")
    }

    private static func line(_ file: File) -> String {
        guard file.blocks != [0] else { return file.path }
        var ranges: [ClosedRange<Int>] = []
        for block in file.blocks {
            if let last = ranges.last, last.upperBound == block - 1 {
                ranges[ranges.count - 1] = last.lowerBound...block
            } else {
                ranges.append(block...block)
            }
        }
        let list = ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
        return "\(file.path)\t\(list.joined(separator: ","))"
    }
}
