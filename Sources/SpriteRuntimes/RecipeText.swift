// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// The part of YAML that recipes are written in; everything else is refused, with the number of the line.
///
/// ```yaml
/// # A comment.
/// key: value                a value: the rest of the line, quoted or not
/// list:
///   - value                 a list of values
/// trees:
///   - key: value            a list of maps of values
///     key2: value
/// script: |                 a block: the lines below, without their common indentation
///   line
/// ```
enum RecipeText {
    enum Value: Hashable {
        case text(String)
        case texts([String])
        case maps([[String: String]])
    }

    static let bytesMax = 256 << 10

    static func parse(_ text: String) throws -> [String: Value] {
        guard text.utf8.count <= bytesMax else {
            throw SpriteError(
                .invalidRequest, "cannot read recipe: it is \(text.utf8.count) bytes, the limit is \(bytesMax)")
        }
        var reader = Reader(
            lines: text.split(separator: "\n", omittingEmptySubsequences: false)
                .map { $0.last == "\r" ? $0.dropLast() : $0 })
        return try reader.document()
    }

    private struct Reader {
        let lines: [Substring]
        var index = 0

        init(lines: [Substring]) { self.lines = lines }

        mutating func document() throws -> [String: Value] {
            var result: [String: Value] = [:]
            while let line = next() {
                guard indentation(line) == 0 else { throw failure("it is indented and belongs to nothing") }
                let (key, value) = try entry(line)
                guard result[key] == nil else { throw failure("'\(key)' is there twice") }
                index += 1
                switch value {
                case "": result[key] = try list()
                case "|": result[key] = .text(try block(above: 0))
                default: result[key] = .text(try scalar(value))
                }
            }
            return result
        }

        private mutating func list() throws -> Value {
            var texts: [String] = []
            var maps: [[String: String]] = []
            while let line = next(), indentation(line) > 0 || line.hasPrefix("- ") {
                let depth = indentation(line)
                let content = line.dropFirst(depth)
                guard content.hasPrefix("- ") else { throw failure("a list's item begins with '- '") }
                let item = content.dropFirst(2)
                guard isEntry(item) else {
                    texts.append(try scalar(item))
                    index += 1
                    continue
                }
                maps.append(try map(first: item, depth: depth + 2))
            }
            guard texts.isEmpty || maps.isEmpty else { throw failure("a list holds either values or maps") }
            return maps.isEmpty ? .texts(texts) : .maps(maps)
        }

        private mutating func map(first: Substring, depth: Int) throws -> [String: String] {
            var result: [String: String] = [:]
            var line = first
            while true {
                let (key, value) = try entry(line)
                guard result[key] == nil else { throw failure("'\(key)' is there twice") }
                guard !value.isEmpty, value != "|" else { throw failure("'\(key)' needs a value on its line") }
                result[key] = try scalar(value)
                index += 1
                guard let following = next(), indentation(following) == depth else { return result }
                line = following.dropFirst(depth)
            }
        }

        private mutating func block(above: Int) throws -> String {
            var taken: [Substring] = []
            while index < lines.count {
                let line = lines[index]
                if !isBlank(line), indentation(line) <= above { break }
                taken.append(line)
                index += 1
            }
            while taken.last.map(isBlank) == true { taken.removeLast() }
            let depth = taken.filter { !isBlank($0) }.map(indentation).min() ?? 0
            return taken.map { $0.dropFirst(min(depth, $0.count)) + "\n" }.joined()
        }

        /// The next line that says something, without a comment that stands alone.
        private mutating func next() -> Substring? {
            while index < lines.count {
                let line = lines[index]
                guard isBlank(line) || line.drop(while: { $0 == " " }).hasPrefix("#") else { return line }
                index += 1
            }
            return nil
        }

        private func isBlank(_ line: Substring) -> Bool { line.allSatisfy { $0 == " " } }
        private func indentation(_ line: Substring) -> Int { line.prefix { $0 == " " }.count }

        private func isEntry(_ text: Substring) -> Bool {
            let key = text.prefix { $0.isASCII && ($0.isLetter || $0 == "_") }
            let rest = text.dropFirst(key.count)
            return !key.isEmpty && (rest == ":" || rest.hasPrefix(": "))
        }

        private func entry(_ line: Substring) throws -> (String, Substring) {
            guard !line.contains("\t") else { throw failure("it holds a tab; use spaces") }
            guard isEntry(line), let colon = line.firstIndex(of: ":") else {
                throw failure("write 'key: value' or 'key:' with a list below it")
            }
            let value = withoutComment(line[line.index(after: colon)...].drop { $0 == " " })
            return (String(line[..<colon]), value)
        }

        private func withoutComment(_ value: Substring) -> Substring {
            var end = value.endIndex
            if value.first != "\"", let comment = value.firstRange(of: " #") { end = comment.lowerBound }
            var result = value[..<end]
            while result.last == " " { result = result.dropLast() }
            return result
        }

        private func scalar(_ text: Substring) throws -> String {
            let value = withoutComment(text)
            if value.hasPrefix("\"") {
                guard value.count >= 2, value.hasSuffix("\""), !value.dropFirst().dropLast().contains("\""),
                    !value.contains("\\")
                else { throw failure("a quoted value ends with its quote and holds no other quote or backslash") }
                return String(value.dropFirst().dropLast())
            }
            guard let first = value.first, !"{}[]&*!|>'%@`,".contains(first) else {
                throw failure("this form of YAML is not understood; write plain text, or put it in double quotes")
            }
            return String(value)
        }

        private func failure(_ what: String) -> SpriteError {
            SpriteError(.invalidRequest, "cannot read recipe: line \(index + 1): \(what)")
        }
    }
}
