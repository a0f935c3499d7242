// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteStorage

/// Streams put together by hand, since the kernel never sends the bad ones.
private struct StreamBuilder {
    var bytes = Array("btrfs-stream".utf8) + [0, 1, 0, 0, 0]

    static func number(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(value >> ($0 * 8) & 0xFF) } }

    mutating func command(_ kind: Int, _ attributes: [(Int, [UInt8])]) {
        let body = attributes.flatMap { Self.number($0.0, 2) + Self.number($0.1.count, 2) + $0.1 }
        bytes += Self.number(body.count, 4) + Self.number(kind, 2) + [0, 0, 0, 0] + body
    }

    func commands(pieces: Int = 1 << 20) throws -> [SendCommand] {
        var stream = SendStream()
        var result: [SendCommand] = []
        for begin in stride(from: 0, to: bytes.count, by: pieces) {
            bytes[begin..<min(begin + pieces, bytes.count)].withUnsafeBufferPointer { stream.append($0) }
            while let command = try stream.next() { result.append(command) }
        }
        return result
    }
}

private func path(_ text: String) -> (Int, [UInt8]) { (15, Array(text.utf8)) }

@Test(arguments: [1, 7, 1000])
func `a stream is read the same however it is cut`(pieces: Int) throws {
    var stream = StreamBuilder()
    stream.command(4, [path("o257-1-0"), (3, StreamBuilder.number(257, 8))])
    stream.command(9, [path("o257-1-0"), (16, Array("upper/a".utf8))])
    stream.command(20, [path("upper/a")])
    stream.command(22, [path("upper/a"), (18, StreamBuilder.number(4096, 8)), (4, StreamBuilder.number(10, 8))])
    stream.command(21, [])
    let a = Array("upper/a".utf8)
    #expect(
        try stream.commands(pieces: pieces) == [
            .create(Array("o257-1-0".utf8)), .rename(from: Array("o257-1-0".utf8), to: a), .content(a, 4096..<4106),
            .end,
        ])
}

@Test
func `what is not a stream is refused`() {
    var unknown = StreamBuilder()
    unknown.command(99, [path("x")])
    var lacking = StreamBuilder()
    lacking.command(11, [(3, [0])])
    var long = StreamBuilder()
    long.command(11, [(15, [UInt8](repeating: 0x61, count: 5000))])
    var zero = StreamBuilder()
    zero.command(11, [(15, [0x61, 0, 0x62])])
    var endless = StreamBuilder()
    endless.command(
        22, [path("x"), (18, [UInt8](repeating: 0xFF, count: 8)), (4, StreamBuilder.number(2, 8))])
    var huge = StreamBuilder()
    huge.bytes += [0xFF, 0xFF, 0xFF, 0x7F, 11, 0, 0, 0, 0, 0]
    var overrun = StreamBuilder()
    overrun.bytes += [4, 0, 0, 0, 11, 0, 0, 0, 0, 0, 15, 0, 200, 0]
    var other = StreamBuilder()
    other.bytes[0] = 0x42
    var later = StreamBuilder()
    later.bytes[13] = 2
    for bad in [unknown, lacking, long, zero, endless, huge, overrun, other, later] {
        #expect(throws: SendStream.Malformed.self) { try bad.commands() }
    }
}

@Test
func `names are followed through renames`() throws {
    func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
    var names = TouchedNames()
    for command: SendCommand in [
        .rename(from: bytes("upper/a"), to: bytes("upper/b")), .attributes(bytes("upper/b/in")),
        .create(bytes("o9")), .rename(from: bytes("o9"), to: bytes("upper/a")), .remove(bytes("upper/b/gone")),
        .content(bytes("upper/b/text"), 0..<10), .content(bytes("upper/b/text"), 10..<20),
    ] { try names.apply(command) }
    let places = try names.places(ComparisonWatch())
    let found = Set(places.keys.map { String(decoding: $0, as: UTF8.self) })
    #expect(
        found == [
            "upper/a", "upper/b", "upper/a/in", "upper/b/in", "upper/a/gone", "upper/a/text", "upper/b/text",
        ])
    #expect(places[bytes("upper/b/text")]?.ranges == [0..<20])
    #expect(places[bytes("upper/a")]?.isMoved == true)
}

@Test(arguments: [
    ("", "a\n", "@@ -0,0 +1 @@\n+a\n"),
    ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
    ("a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
    ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n", "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"),
    ("same\n", "same\n", ""),
])
func `a patch is what patch takes`(old: String, new: String, hunks: String) {
    let text = UnifiedDiff.text(Array(old.utf8), Array(new.utf8), oldName: "a/f", newName: "b/f")
    #expect(text == (hunks.isEmpty ? "" : "--- a/f\n+++ b/f\n" + hunks))
}

@Test
func `what is not text has no patch`() {
    #expect(UnifiedDiff.text([0], [], oldName: "a", newName: "b") == nil)
    #expect(UnifiedDiff.text([0xFF], [], oldName: "a", newName: "b") == nil)
}
