// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

/// A fixed number of damaged streams of frames; `make fuzz` tries more of them.
@Suite struct WebSocketFuzzTests {
    /// Frames of a client: whole, in parts, control frames between, a close.
    private static let seeds: [[UInt8]] = [
        frame(0x82, [0] + Array("input".utf8)), frame(0x82, [4]), frame(0x81, Array(#"{"type":"signal"}"#.utf8)),
        frame(0x01, Array("half ".utf8)), frame(0x80, Array("and half".utf8)), frame(0x89, Array("ping".utf8)),
        frame(0x8A, []), frame(0x88, [3, 232]), frame(0x88, []), frame(0x82, [UInt8](repeating: 7, count: 200)),
        frame(0x82, [UInt8](repeating: 9, count: 2000)), [0x82, 0xFF, 0, 0, 0, 0, 1, 0, 0, 1, 1, 2, 3, 4],
    ]

    private static func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let mask: [UInt8] = [1, 2, 3, 4]
        let length: [UInt8] =
            switch payload.count {
            case ...125: [0x80 | UInt8(payload.count)]
            case ...65535: [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
            default: [0x80 | 127, 0, 0, 0, 0] + [24, 16, 8, 0].map { UInt8(payload.count >> $0 & 255) }
            }
        return [first] + length + mask + payload.enumerated().map { $0.element ^ mask[$0.offset & 3] }
    }

    @Test func `whatever a client sends, it is understood or refused`() {
        var inputs = Mutations(seed: 3, from: Self.seeds)
        for _ in 0..<1_000 {
            let input = inputs.next()
            if let problem = webSocketProblem(input) { Issue.record("\(problem), by \(input.prefix(200))") }
        }
    }
}
