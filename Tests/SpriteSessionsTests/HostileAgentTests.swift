// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteAgentWire
import SpriteDomain
import SpriteSessions
import SpriteSystem
import Testing

/// What a sprite whose PID 1 was taken over may send.
@Suite(.serialized, .timeLimit(.minutes(1))) struct HostileAgentTests {
    @Test(
        arguments: [
            [[UInt8](repeating: 0xFF, count: 64)],
            [[0, 0, 2, 0, 1, 0, 0, 0]],
            [Frame(type: 99, body: []).encoded()],
            [AgentEvent.hello(lastSession: .max, sessionCount: 0).frame().encoded()],
            [AgentEvent.hello(lastSession: 1, sessionCount: .max).frame().encoded()],
            [
                AgentEvent.hello(lastSession: 0, sessionCount: 1).frame().encoded(),
                session(5).frame(descriptorCount: 2).encoded(),
            ],
            [
                AgentEvent.hello(lastSession: 5, sessionCount: 1).frame().encoded(),
                session(5).frame(descriptorCount: 200).encoded(),
            ],
            [session(1).frame(descriptorCount: 2).encoded()],
            [AgentEvent.hello(lastSession: 0, sessionCount: 0).frame(descriptorCount: 3).encoded()],
        ] as [[[UInt8]]])
    func `a broken message ends the connection and nothing else`(_ messages: [[UInt8]]) async throws {
        try await withPeer { peer in for message in messages { clinux_send(peer, message, message.count, nil, 0) } }
    }

    @Test func `descriptors that are not pipes are refused`() async throws {
        try await withPeer { peer in
            let hello = AgentEvent.hello(lastSession: 5, sessionCount: 1).frame().encoded()
            clinux_send(peer, hello, hello.count, nil, 0)
            guard let file = try? Descriptor.open("/dev/zero", O_RDWR) else { return }
            let message = HostileAgentTests.session(5).frame(descriptorCount: 2).encoded()
            clinux_send(peer, message, message.count, [file.number, file.number], 2)
        }
    }

    @Test func `a flood of descriptors is refused`() async throws {
        try await withPeer { peer in
            guard let file = try? Descriptor.open("/dev/zero", O_RDWR) else { return }
            // One frame that never ends, with descriptors on each of its bytes.
            let header: [UInt8] = [0, 255, 0, 0, 1, 0, 0, 0]
            clinux_send(peer, header, header.count, nil, 0)
            for _ in 0..<1000 {
                clinux_send(peer, [0], 1, [Int32](repeating: file.number, count: 16), 16)
            }
        }
    }

    @Test func `random messages never crash the engine`() async throws {
        for _ in 0..<50 {
            try await withPeer { peer in
                let hello = AgentEvent.hello(lastSession: 1000, sessionCount: 3).frame().encoded()
                clinux_send(peer, hello, hello.count, nil, 0)
                for _ in 0..<100 {
                    let body = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...3) }
                    let message = Frame(type: .random(in: 1...5), body: body).encoded()
                    clinux_send(peer, message, message.count, nil, 0)
                }
            }
        }
    }

    static func session(_ id: UInt64) -> AgentEvent {
        .session(AgentSession(id: id, process: 1, isTerminal: false, hasInput: false, ending: nil))
    }

    /// Connects an engine to a peer that does `attack`, and checks that it says so and goes on.
    private func withPeer(_ attack: @escaping @Sendable (Int32) -> Void) async throws {
        let directory = "/dev/shm/sprite-hostile-test-\(UInt32.random(in: 0 ... .max))"
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let engine = try SessionEngine(runDirectory: directory, logger: logger)
        let sprite = SpriteID.random()
        let listener = Descriptor(owning: try engine.listen(sprite))
        async let served: Void = blocking {
            var peer: Int32 = -1
            for _ in 0..<1000 where peer < 0 {
                peer = clinux_accept(listener.number)
                if peer < 0 { usleep(1000) }
            }
            attack(peer)
            close(peer)
        }
        let error = await #expect(throws: SpriteError.self) {
            try await engine.connect(sprite, setup: AgentSetup(hostname: "h", nameServers: [], environment: [:]))
        }
        #expect(error?.code == .unavailable)
        try await served
        let refused = await #expect(throws: SpriteError.self) {
            _ = try await engine.exec(sprite, ExecRequest(arguments: ["true"]))
        }
        #expect(refused?.code == .unavailable)
        await engine.disconnect(sprite)
        await engine.stop()
        for folder in ["agents", "sessions", "ended"] { rmdir("\(directory)/\(folder)") }
        #expect(rmdir(directory) == 0)
    }
}
