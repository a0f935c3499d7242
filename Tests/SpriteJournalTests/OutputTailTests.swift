// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteJournal

@Suite struct OutputTailTests {
    private struct Line: Equatable {
        var text: String
        var flags: Int64
        init(_ text: String, _ flags: Int64 = 0) {
            self.text = text
            self.flags = flags
        }
    }

    /// What a look at the first stream hands out.
    private func drain(_ tail: OutputTail, isLast: Bool = false, budget: Int = 1 << 30, chunk: Int = 256 << 10)
        -> [Line]
    {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 16)
        defer { buffer.deallocate() }
        var lines: [Line] = []
        let end = tail.output.look().streams[0].upperBound
        _ = tail.drain(0, to: end, isLast: isLast, budget: budget, buffer: buffer) { piece in
            lines.append(Line(String(decoding: piece.bytes, as: UTF8.self), piece.flags))
        }
        return lines
    }

    private func tail(_ output: PrintedOutput) -> OutputTail { OutputTail(output, positions: [0, 0], rate: 1 << 30) }

    @Test func `lines come without their ends, also where these are CR LF`() {
        let output = PrintedOutput()
        output.print("one\ntwo\r\n\n\r\nthree\rfour\n")
        #expect(drain(tail(output)) == [Line("one"), Line("two"), Line(""), Line(""), Line("three\rfour")])
    }

    @Test func `the beginning of a line waits for its end`() async throws {
        let output = PrintedOutput()
        let tail = tail(output)
        output.print("name? ")
        #expect(drain(tail).isEmpty)
        #expect(tail.deadline != nil)
        output.print("bob\n")
        #expect(drain(tail) == [Line("name? bob")])
        #expect(tail.deadline == nil)
    }

    @Test func `a line whose end does not come is handed out as it is`() async throws {
        let output = PrintedOutput()
        let tail = tail(output)
        output.print("name? ")
        #expect(drain(tail).isEmpty)
        let deadline = try #require(tail.deadline)
        try await Task.sleep(until: deadline, clock: .continuous)
        #expect(drain(tail) == [Line("name? ", RecordFlags.partial)])
        output.print("bob\n")
        #expect(drain(tail) == [Line("bob")])
    }

    @Test func `the last line of a command that has ended needs no newline`() {
        let output = PrintedOutput()
        output.print("one\ntwo")
        #expect(drain(tail(output), isLast: true) == [Line("one"), Line("two")])
    }

    @Test(arguments: [1, 2, 3, 4]) func `a long line is cut between characters`(_ length: Int) {
        let character = ["x", "ä", "€", "😀"][length - 1]
        // An odd beginning, so that the cut does not fall between characters by itself.
        let text = "." + String(repeating: character, count: 50_000 / length)
        let output = PrintedOutput()
        output.print(text + "\n")
        let lines = drain(tail(output))
        #expect(lines.map(\.text).joined() == text)
        #expect(lines.count == 4)
        #expect(lines.dropLast().allSatisfy { $0.flags == RecordFlags.partial && $0.text.utf8.count > 16_000 })
        #expect(lines.last?.flags == 0)
        #expect(!lines.contains { $0.text.contains("\u{FFFD}") })
    }

    @Test func `a character whose second half has not come yet is not cut`() {
        let output = PrintedOutput()
        let tail = tail(output)
        let bytes = Array("für\n".utf8)
        output.print(bytes.prefix(2))
        #expect(drain(tail).isEmpty)
        output.print(bytes.dropFirst(2))
        #expect(drain(tail) == [Line("für")])
    }

    @Test func `much output comes in blocks that hold every line once`() {
        let output = PrintedOutput()
        let lines = (0..<30_000).map { "line \($0)" }
        output.print(lines.map { $0 + "\n" }.joined())
        let blocks = drain(tail(output))
        #expect(blocks.flatMap { $0.text.split(separator: "\n").map(String.init) } == lines)
        #expect(blocks.contains { $0.flags == RecordFlags.block })
        #expect(blocks.count < 10_000)
    }

    @Test func `a small buffer changes nothing`() {
        let output = PrintedOutput()
        let lines = (0..<5000).map { "line \($0) " + String(repeating: "y", count: $0 % 300) }
        output.print(lines.map { $0 + "\n" }.joined())
        let pieces = drain(tail(output), chunk: 20_000)
        #expect(pieces.flatMap { $0.text.split(separator: "\n").map(String.init) } == lines)
    }

    @Test func `a budget ends a turn and the next goes on`() {
        let output = PrintedOutput()
        let tail = tail(output)
        output.print(String(repeating: "0123456789\n", count: 100_000))
        var turns = 0
        var bytes = 0
        while tail.positions[0] < 1_100_000, turns < 1000 {
            bytes += drain(tail, budget: 100_000).reduce(0) { $0 + $1.text.utf8.count + 1 }
            turns += 1
        }
        #expect(bytes == 1_100_000)
        #expect(turns > 1 && turns < 20)
    }

    @Test func `what was left out is not recorded before it was told of`() {
        let output = PrintedOutput()
        output.print(String(repeating: "x", count: 1000))
        let tail = tail(output)
        tail.skip(0, to: 600)
        #expect(tail.positions[0] == 600 && tail.recordedPosition(0) == 0)
        tail.commit()
        #expect(tail.takeSkipped(0) == 600)
        #expect(tail.recordedPosition(0) == 600)
        tail.rollBack()
        #expect(tail.recordedPosition(0) == 0 && tail.takeSkipped(0) == 600)
    }
}
