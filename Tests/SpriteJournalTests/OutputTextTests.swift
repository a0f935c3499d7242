// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteJournal

@Suite struct OutputTextTests {
    @Test(
        arguments: [
            ("", true), ("plain text\twith a tab\u{1B}[1m", true), ("12345678", true), ("1234567\u{0}", false),
            ("123456789\u{0}", false), ("ä", false), ("1234567890ä", false),
        ])
    func `plain text is ASCII without NUL`(_ text: String, _ expected: Bool) {
        #expect(Array(text.utf8).withUnsafeBytes { isPlain($0) } == expected)
    }

    @Test func `what is no text becomes U+FFFD`() {
        #expect([UInt8]([0x61, 0, 0xFF, 0x62]).withUnsafeBytes { repaired($0) } == "a\u{FFFD}\u{FFFD}b")
        #expect(repaired("a\u{0}b") == "a\u{FFFD}b")
    }

    @Test(
        arguments: [
            (Array(repeating: 0, count: 5000), true),
            (Array(repeating: 0, count: 1000), false),
            (Array(String(repeating: "это обычный текст ", count: 200).utf8), false),
            (Array(String(repeating: "\u{1B}[31mred\u{1B}[0m\r\n", count: 200).utf8), false),
            (Array(String(repeating: "/a/path/of/a/file\u{0}", count: 200).utf8), false),
            ((0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }, true),
        ] as [([UInt8], Bool)])
    func `binary is what no terminal prints`(_ bytes: [UInt8], _ expected: Bool) {
        #expect(bytes.withUnsafeBytes { isBinary($0) } == expected)
    }

    @Test func `lines of text around it are set apart`() {
        let zeros = [UInt8](repeating: 0, count: 2000)
        let bytes = Array("before\nagain\n".utf8) + zeros + Array("\nafter\nthe end".utf8)
        let part = bytes.withUnsafeBytes { binaryPart($0) }
        #expect(part == 13..<2013)
        #expect(zeros.withUnsafeBytes { binaryPart($0) } == 0..<2000)
    }

    @Test func `a run says how much it was and how it began`() {
        var run = BinaryRun()
        [UInt8]([0x7F, 0x45, 0, 1]).withUnsafeBytes { run.add($0) }
        [UInt8](repeating: 9, count: 96).withUnsafeBytes { run.add($0) }
        #expect(run.text == "[100 bytes that are no text, beginning with 7f 45 00 01]")
    }
}

@Suite struct TokenBucketTests {
    @Test func `a bucket starts full, empties, and fills with time`() {
        let start = ContinuousClock.now
        var bucket = TokenBucket(rate: 1000)
        #expect(bucket.available(start) == 8000)
        bucket.take(9000)
        #expect(bucket.available(start) == 0)
        let later = bucket.available(start + .seconds(3))
        #expect((1990...2010).contains(later))
        #expect(bucket.available(start + .seconds(1000)) == 8000)
    }

    @Test func `many short looks fill it as much as a long one`() {
        let start = ContinuousClock.now
        var bucket = TokenBucket(rate: 1000)
        bucket.take(8000)
        for step in 1...20_000 { _ = bucket.available(start + .microseconds(step * 100)) }
        #expect((1900...2010).contains(bucket.available(start + .seconds(2))))
    }
}
