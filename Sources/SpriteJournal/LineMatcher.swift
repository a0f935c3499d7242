// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain

/// Decides whether a line holds what was searched.
///
/// `@unchecked`: regexec(3) may be called from several threads, and nothing else changes.
final class LineMatcher: @unchecked Sendable {
    private static let patternBytesMax = 1000
    private static let wordsMax = 16
    /// As the full-text index has them: letters and digits, in small letters.
    let words: [[UInt8]]
    private var pattern = regex_t()
    private var hasPattern = false

    init(words: String?, pattern: String?) throws {
        self.words = try words.map(LineMatcher.words) ?? []
        guard let text = pattern else { return }
        try LineMatcher.check(text)
        var flags = REG_EXTENDED | REG_NOSUB
        var source = text
        if text.hasPrefix("(?i)") {
            flags |= REG_ICASE
            source = String(text.dropFirst(4))
        }
        var compiled = regex_t()
        let result = regcomp(&compiled, source, flags)
        guard result == 0 else {
            var reason = [CChar](repeating: 0, count: 200)
            regerror(result, &compiled, &reason, reason.count)
            let sentence = String(decoding: reason.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw SpriteError(.invalidRequest, "invalid regular expression: \(sentence)")
        }
        self.pattern = compiled
        hasPattern = true
    }

    deinit { if hasPattern { regfree(&pattern) } }

    var isNeeded: Bool { !words.isEmpty || hasPattern }

    /// What would make the matching itself endless, or take all memory, is refused.
    private static func check(_ text: String) throws {
        guard text.utf8.count <= patternBytesMax else {
            throw SpriteError(
                .invalidRequest,
                "invalid regular expression: it is \(text.utf8.count) bytes, the limit is \(patternBytesMax)")
        }
        var repeats = 1
        var previous: UInt8 = 0
        // Of `{3,7}` the second number, of `{3,}` the first: that many copies are made.
        var (number, largest) = (0, 0)
        var isInBraces = false
        for byte in text.utf8 {
            if previous == 0x5C, (0x31...0x39).contains(byte) {
                throw SpriteError(.invalidRequest, "invalid regular expression: back-references are not supported")
            }
            previous = previous == 0x5C ? 0 : byte
            if byte == 0x7B { (isInBraces, number, largest) = (true, 0, 0) }
            if isInBraces, (0x30...0x39).contains(byte) { number = min(number * 10 + Int(byte - 0x30), 1 << 20) }
            if byte == 0x2C { (largest, number) = (max(largest, number), 0) }
            if byte == 0x7D, isInBraces {
                isInBraces = false
                repeats = min(repeats * max(1, largest, number), 1 << 20)
            }
        }
        guard repeats <= 1000 else {
            throw SpriteError(
                .invalidRequest, "invalid regular expression: its repetitions multiply to more than 1000")
        }
    }

    static func words(_ text: String) throws -> [[UInt8]] {
        let words = tokens(of: text)
        guard !words.isEmpty, words.count <= wordsMax, text.utf8.count <= patternBytesMax else {
            throw SpriteError(
                .invalidRequest, "invalid search: give 1 to \(wordsMax) words of letters and digits to look for")
        }
        return words.map { Array($0.utf8) }
    }

    /// The question for the index.
    var indexQuestion: String {
        words.map { "\"\(String(decoding: $0, as: UTF8.self))\"" }.joined(separator: " AND ")
    }

    /// - Parameter line: Followed by a byte that may be overwritten.
    func matches(_ line: UnsafeRawBufferPointer) -> Bool {
        for word in words where !hasWord(line, word) { return false }
        guard hasPattern else { return true }
        return withUnsafeTemporaryAllocation(byteCount: line.count + 1, alignment: 1) { copy in
            copy.copyMemory(from: line)
            copy[line.count] = 0
            let text = copy.assumingMemoryBound(to: CChar.self).baseAddress
            return text.map { regexec(&pattern, $0, 0, nil, 0) == 0 } ?? false
        }
    }
}

private func isWordByte(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
}

private func lowered(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte | 0x20 : byte }

/// Whether the line has the word, whole; the word is in small letters.
func hasWord(_ line: UnsafeRawBufferPointer, _ word: [UInt8]) -> Bool {
    guard let first = word.first, isPlain(line), word.allSatisfy({ $0 < 0x80 }) else {
        let text = String(decoding: line, as: UTF8.self)
        return tokens(of: text).contains { $0.utf8.elementsEqual(word) }
    }
    guard line.count >= word.count else { return false }
    var index = 0
    while index <= line.count - word.count {
        guard lowered(line[index]) == first, index == 0 || !isWordByte(line[index - 1]) else {
            index += 1
            continue
        }
        var length = 1
        while length < word.count, lowered(line[index + length]) == word[length] { length += 1 }
        let end = index + length
        if length == word.count, end == line.count || !isWordByte(line[end]) { return true }
        index += 1
    }
    return false
}

/// The words of a text as SQLite's `unicode61` sees them.
func tokens(of text: String) -> [String] {
    text.unicodeScalars.split { scalar in
        if scalar.isASCII { return !isWordByte(UInt8(scalar.value)) }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
            .letterNumber, .otherNumber, .privateUse:
            return false
        default: return true
        }
    }.map { String($0).lowercased() }
}
