// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What libFuzzer calls for every input: its first byte chooses the decoder, the rest is what that decoder gets.
@_cdecl("sprite_fuzz_one_input")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: bytes + 1, count: count - 1))
    let problem =
        switch bytes[0] % 3 {
        case 0: webSocketProblem(input)
        case 1: agentEventProblem(input)
        default: agentRequestProblem(input)
        }
    if let problem { fatalError(problem) }
    return 0
}

/// What API.swift's settings hold besides is not needed here.
struct APIServerConfiguration {}
