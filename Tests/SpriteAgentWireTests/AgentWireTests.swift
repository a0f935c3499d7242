// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAgentWire
import Testing

@Suite struct AgentWireTests {
    static let requests: [AgentRequest] = [
        .setup(hostname: "demo", nameServers: ["10.0.0.1", "1.1.1.1"]),
        .spawn(
            AgentSpawn(
                session: 7, isTerminal: true, takesInput: true, rows: 24, columns: 80, path: "/bin/sh",
                arguments: ["sh", "-c", "echo \u{1F600}"], environment: ["A=b", "C="], directory: "/tmp", user: "root")),
        .signal(session: 7, number: 15), .closeInput(session: .max), .release(session: 0), .shutdown,
    ]
    static let events: [AgentEvent] = [
        .hello(lastSession: 9, sessionCount: 2),
        .session(AgentSession(id: 1, process: 44, isTerminal: false, hasInput: true, ending: nil)),
        .session(AgentSession(id: 2, process: 45, isTerminal: true, hasInput: false, ending: .signaled(9))),
        .spawned(session: 3, process: 46, path: "/usr/bin/env", directory: "/home/sprite"),
        .spawnFailed(session: 4, stage: 7, errno: 2, text: "x: command not found"), .ended(session: 3, .exited(255)),
    ]

    @Test(arguments: requests) func `a request survives the way`(_ request: AgentRequest) throws {
        #expect(try AgentRequest(decoded(request.frame(descriptorCount: 2).encoded())) == request)
    }

    @Test(arguments: events) func `an event survives the way`(_ event: AgentEvent) throws {
        #expect(try AgentEvent(decoded(event.frame(descriptorCount: 1).encoded())) == event)
    }

    @Test func `frames are cut out of any pieces`() throws {
        let bytes = AgentWireTests.events.flatMap { $0.frame().encoded() }
        for size in [1, 3, 8, 100, bytes.count] {
            var decoder = FrameDecoder(bodyBytesMax: 1 << 10)
            var found: [AgentEvent] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                decoder.append(bytes[start..<min(start + size, bytes.count)])
                while let frame = try decoder.next() { found.append(try AgentEvent(frame)) }
            }
            #expect(found == AgentWireTests.events)
            #expect(decoder.waitingBytes == 0)
        }
    }

    @Test func `a length over the limit is refused before the body comes`() {
        var decoder = FrameDecoder(bodyBytesMax: 100)
        decoder.append([101, 0, 0, 0, 1, 0, 0, 0])
        #expect(throws: WireError.tooLong(101, limit: 100)) { try decoder.next() }
    }

    @Test func `a text that goes beyond the body is refused`() {
        #expect(throws: WireError.truncated) {
            try AgentEvent(Frame(type: 3, body: [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]))
        }
    }

    @Test func `every cut and every changed byte decodes or throws`() {
        var generator = SystemRandomNumberGenerator()
        for bytes in AgentWireTests.events.map({ $0.frame().body }) {
            for type in UInt8(0)...7 {
                for length in 0...bytes.count { _ = try? AgentEvent(Frame(type: type, body: Array(bytes[..<length]))) }
            }
        }
        for _ in 0..<20_000 {
            let body = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            _ = try? AgentEvent(Frame(type: UInt8.random(in: 1...5), body: body))
            _ = try? AgentRequest(Frame(type: UInt8.random(in: 1...6), body: body))
        }
    }

    @Test func `a list with more entries than bytes takes no memory`() {
        var reader = WireReader([255, 255, 15, 0])
        #expect(throws: WireError.truncated) { try reader.texts(countMax: 1 << 20) }
    }

    private func decoded(_ bytes: [UInt8]) throws -> Frame {
        var decoder = FrameDecoder(bodyBytesMax: 8 << 20)
        decoder.append(bytes)
        return try #require(try decoder.next())
    }
}
