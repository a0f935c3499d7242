// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// Text as SQLite can hold it: UTF-8 without NUL.
func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    // Eight bytes at a time: no high bit, and no zero byte.
    while index + 8 <= bytes.count {
        let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let zeros = (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
        if word & 0x8080_8080_8080_8080 != 0 || zeros != 0 { return false }
        index += 8
    }
    while index < bytes.count {
        if bytes[index] == 0 || bytes[index] >= 0x80 { return false }
        index += 1
    }
    return true
}

/// Anything as text: what is not UTF-8, and NUL, becomes U+FFFD.
func repaired(_ bytes: UnsafeRawBufferPointer) -> String {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(0) else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value == 0 ? "\u{FFFD}" : $0 }))
}

func repaired(_ text: String) -> String {
    guard text.utf8.contains(0) else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value == 0 ? "\u{FFFD}" : $0 }))
}

/// Whether so little of it is text that its bytes are worth more as a number than as a row of U+FFFD.
///
/// One in eight bytes that no terminal prints, or one in eight of a sample that is not UTF-8 where many bytes are beyond
/// ASCII. Short pieces are always kept.
func isBinary(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count >= 1024 else { return false }
    var (controls, high) = (0, 0)
    for byte in bytes {
        if byte < 7 || byte > 13 && byte < 27 || byte > 27 && byte < 32 {
            controls += 1
            if controls > bytes.count / 8 { return true }
        }
        high += Int(byte >> 7)
    }
    guard high > bytes.count / 8 else { return false }
    let start = bytes.count / 2
    let sample = UnsafeRawBufferPointer(rebasing: bytes[start..<start + 512])
    return String(decoding: sample, as: UTF8.self).unicodeScalars.count { $0 == "\u{FFFD}" } > sample.count / 8
}

/// The part of a piece that is no text: whole lines of plain text at its beginning and its end are set apart.
func binaryPart(_ bytes: UnsafeRawBufferPointer) -> Range<Int> {
    guard let base = bytes.baseAddress else { return 0..<0 }
    var start = 0
    while let newline = memchr(base + start, 0x0A, bytes.count - start) {
        let end = base.distance(to: UnsafeRawPointer(newline))
        guard isPlain(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) else { break }
        start = end + 1
    }
    var end = bytes.count
    while end > start, let newline = lastNewline(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) {
        let line = UnsafeRawBufferPointer(rebasing: bytes[(start + newline + 1)..<end])
        guard isPlain(line) else { break }
        end = start + newline
    }
    return start..<end
}

/// As memrchr(3), which Swift does not see.
func lastNewline(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var index = bytes.count - 1
    // Eight bytes at a time, as long as none of them is one.
    while index >= 7 {
        let word = bytes.loadUnaligned(fromByteOffset: index - 7, as: UInt64.self) ^ 0x0A0A_0A0A_0A0A_0A0A
        guard (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080 == 0 else { break }
        index -= 8
    }
    while index >= 0, bytes[index] != 0x0A { index -= 1 }
    return index >= 0 ? index : nil
}

/// Neighbouring output that is no text: it becomes one record, which says how much it was and how it began.
struct BinaryRun {
    private static let shownBytes = 16
    private(set) var bytes = 0
    private var beginning = ""

    mutating func add(_ piece: UnsafeRawBufferPointer) {
        if bytes == 0 { beginning = piece.prefix(BinaryRun.shownBytes).map(hexadecimal).joined(separator: " ") }
        bytes += piece.count
    }

    var text: String { "[\(bytes) bytes that are no text, beginning with \(beginning)]" }
}

private func hexadecimal(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
