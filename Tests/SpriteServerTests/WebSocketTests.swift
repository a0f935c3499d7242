// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import SpriteDomain
import Testing

@testable import SpriteServer

@Suite(.timeLimit(.minutes(1))) struct WebSocketTests {
    private func withSprite(
        _ change: (inout APIServerConfiguration) -> Void = { _ in },
        _ body: (Int, FakeControl) async throws -> Void
    ) async throws {
        try await withServer(change) { port, control in
            _ = try await control.create(SpriteCreation(name: try SpriteName("demo")))
            try await body(port, control)
        }
    }

    private let exec = "/v1/sprites/demo/exec"

    @Test func `output comes first, then the exit frame, then the handshake`() async throws {
        // Long: on a busy machine the client would be closed before it has closed.
        try await withSprite({ $0.timing.closeByClient = .seconds(30) }) { port, control in
            try await RawClient.connect(port) { client in
                let answer = try await client.upgrade(exec + "?cmd=say&cmd=out&cmd=err&cmd=3&stdin=true")
                #expect(answer.status == 101)
                #expect(answer.headers["sprite-version"] == "1.2.3")
                #expect(answer.headers["x-sprite-capabilities"] == "signal")
                #expect(answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                let info = try await client.frame()
                #expect(info.opcode == 1)
                #expect(info.text.contains(#""type":"session_info""#) && info.text.contains(#""session_id":"101""#))
                #expect(info.text.contains(#""tty":false"#) && info.text.contains(#""created":1770091506"#))
                #expect(try await client.frame().bytes == [1] + Array("out".utf8))
                #expect(try await client.frame().bytes == [2] + Array("err".utf8))
                #expect(try await client.frame().bytes == [3, 3])
                try await client.send(opcode: 8, [0x03, 0xE8])
                #expect(try await client.frame() == .init(opcode: 8, bytes: [0x03, 0xE8]))
                #expect(try await client.isClosedByServer())
            }
        }
    }

    @Test func `a client that does not close is closed with 1000`() async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=say&cmd=&cmd=&cmd=0")
                let frames = try await client.framesToClose()
                #expect(frames.last?.bytes == [0x03, 0xE8])
                #expect(try await client.isClosedByServer())
            }
        }
    }

    @Test func `input and its end reach the command`() async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=cat&stdin=true")
                _ = try await client.frame()
                try await client.send(opcode: 2, [0] + Array("hel".utf8), fin: false)
                try await client.send(opcode: 9, Array("ping".utf8))
                try await client.send(opcode: 0, Array("lo".utf8))
                #expect(try await client.frame() == .init(opcode: 10, bytes: Array("ping".utf8)))
                #expect(try await client.frame().bytes == [1] + Array("hello".utf8))
                let large = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
                try await client.send(opcode: 2, [0] + large)
                var received: [UInt8] = []
                while received.count < large.count { received += try await client.frame().bytes.dropFirst() }
                #expect(received == large)
                try await client.send(opcode: 2, [4])
                try await client.send(opcode: 2, [4])
                #expect(try await client.frame().bytes == [3, 0])
            }
        }
    }

    @Test(arguments: [(0, [0x03, 0xE8]), (3, [0x0F, 0xA0])] as [(Int, [UInt8])])
    func `a terminal ends with a text and a close code`(_ code: Int, _ close: [UInt8]) async throws {
        try await withSprite({ $0.timing.closeHandshake = .seconds(30) }) { port, _ in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=say&cmd=out&cmd=&cmd=\(code)&tty=true&rows=40&cols=120")
                let info = try await client.frame().text
                #expect(info.contains(#""cols":120"#) && info.contains(#""rows":40"#) && info.contains(#""tty":true"#))
                #expect(try await client.frame() == .init(opcode: 2, bytes: Array("out".utf8)))
                #expect(try await client.frame().text == #"{"exit_code":\#(code),"type":"exit"}"#)
                #expect(try await client.frame() == .init(opcode: 8, bytes: close))
                // The connection stays until our Close.
                try await client.send(opcode: 8, close)
                #expect(try await client.isClosedByServer())
            }
        }
    }

    @Test func `a terminal is resized and signalled`() async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=wait&tty=true")
                _ = try await client.frame()
                try await client.send(opcode: 1, Array(#"{"type":"resize","cols":100,"rows":30}"#.utf8))
                #expect(try await client.frame().text == "size 30x100\n")
                for ignored in ["garbage", "{}", #"{"type":"resize","cols":-1,"rows":1e9}"#, #"{"type":"new"}"#] {
                    try await client.send(opcode: 1, Array(ignored.utf8))
                }
                try await client.send(opcode: 1, Array(#"{"type":"signal","signal":"SIGINT"}"#.utf8))
                #expect(try await client.frame().text == "signal 2\n")
                #expect(try await client.frame().text.contains(#""exit_code":130"#))
            }
        }
    }

    @Test func `a second client sees everything, in both forms of attaching`() async throws {
        try await withSprite { port, control in
            let name = try SpriteName("demo")
            let session = try await control.exec(name, ExecRequest(arguments: ["wait"]))
            try #require(session as? FakeSession).emit(.stdout, "before")
            let id = session.info.id
            for path in [exec + "/\(id)?stdin=true", exec + "?id=\(id)&env=broken"] {
                try await RawClient.connect(port) { client in
                    let answer = try await client.upgrade(path)
                    #expect(answer.status == 101)
                    #expect(try await client.frame().text.contains(#""is_owner":false"#))
                    #expect(try await client.frame().bytes == [1] + Array("before".utf8))
                }
            }
            session.signal(9)
            try await RawClient.connect(port) { client in
                let answer = try await client.upgrade(exec + "/\(id)")
                #expect(answer.status == 404)
                #expect(answer.body.contains("has ended"))
            }
        }
    }

    @Test(
        arguments: [
            ("/v1/sprites/ghost/exec?cmd=x", [:], 404, "no sprite"), ("/v1/sprites/demo/exec", [:], 400, "no 'cmd'"),
            ("/v1/sprites/demo/exec?cmd=x&rows=x&tty=true", [:], 400, "'rows'"),
            ("/v1/sprites/demo/exec/77", [:], 404, "no session"), ("/v1/sprites/ghost/control", [:], 404, "no sprite"),
            ("/v1/sprites/demo/exec?cmd=x", ["Authorization": "Bearer no"], 401, "not known"),
            ("/v1/sprites/demo/exec?cmd=x", ["Sec-WebSocket-Version": "8"], 400, "Version 13"),
            ("/v1/sprites/demo/exec?cmd=x", ["Content-Length": "3"], 400, "has a body"),
        ] as [(String, [String: String], Int, String)])
    func `a refused upgrade is an ordinary error`(
        _ path: String, _ headers: [String: String], _ status: Int, _ sentence: String
    ) async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                let answer = try await client.upgrade(path, headers)
                #expect(answer.status == status)
                #expect(answer.body.contains(sentence), "\(answer.body)")
                #expect(answer.headers["sprite-version"] == "1.2.3")
            }
        }
    }

    @Test func `an unknown protocol is ignored`() async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                try await client.request(
                    "GET", "/health",
                    ["Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "x"])
                #expect(try await client.answer().status == 200)
            }
        }
    }

    @Test func `a command that cannot start tells why`() async throws {
        try await withSprite { port, _ in
            for terminal in [false, true] {
                try await RawClient.connect(port) { client in
                    _ = try await client.upgrade(exec + "?cmd=missing-user" + (terminal ? "&tty=true" : ""))
                    let frames = try await client.framesToClose()
                    #expect(frames[0].text.contains(#""type":"session_info""#))
                    #expect(frames[1].text.contains("sprite: cannot run: there is no user 'nobody-here'"))
                    if terminal {
                        #expect(frames[2].text.contains(#""exit_code":127"#))
                        #expect(frames[3].bytes == [0x0F, 0xA0])
                    } else {
                        #expect(frames[1].bytes.first == 2)
                        #expect(frames[2].bytes == [3, 127])
                    }
                }
            }
        }
    }

    @Test(arguments: ["unmasked", "reserved", "opcode", "continuation", "nested", "ping", "huge", "joined"])
    func `broken frames close the connection and detach`(_ kind: String) async throws {
        try await withSprite { port, control in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=wait")
                _ = try await client.frame()
                switch kind {
                case "unmasked": try await client.send(opcode: 2, [0, 1], masked: false)
                case "reserved": try await client.send(opcode: 0x42, [0])
                case "opcode": try await client.send(opcode: 5, [0])
                case "continuation": try await client.send(opcode: 0, [0])
                case "nested":
                    try await client.send(opcode: 2, [0], fin: false)
                    try await client.send(opcode: 2, [0])
                case "ping": try await client.send(opcode: 9, [UInt8](repeating: 0, count: 200))
                case "huge": try await client.send([0x82, 0xFF, 0, 0, 0, 0, 0x02, 0, 0, 0, 1, 2, 3, 4])
                default:
                    let piece = [UInt8](repeating: 0, count: 6 << 20)
                    try await client.send(opcode: 2, piece, fin: false)
                    try await client.send(opcode: 0, piece, fin: false)
                    try await client.send(opcode: 0, piece)
                }
                let close = try await client.framesToClose().last
                let code: UInt8 = kind == "huge" || kind == "joined" ? 0xF1 : 0xEA
                #expect(close?.bytes.prefix(2) == [0x03, code])
                #expect(try await client.isClosedByServer())
            }
            let session = try #require(try await control.session(try SpriteName("demo"), "101") as? FakeSession)
            for _ in 0..<100 where session.attachedCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
            #expect(session.attachedCount == 0)
            #expect(!session.hasEnded)
        }
    }

    @Test func `a client that vanishes is detached, and the session goes on`() async throws {
        try await withSprite { port, control in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=wait")
                _ = try await client.frame()
            }
            let session = try #require(try await control.session(try SpriteName("demo"), "101") as? FakeSession)
            for _ in 0..<100 where session.attachedCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
            #expect(session.attachedCount == 0)
            #expect(!session.hasEnded)
        }
    }

    @Test func `quiet connections get messages`() async throws {
        try await withSprite({ $0.timing.keepalive = .milliseconds(50) }) { port, _ in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=wait")
                #expect(try await client.frame().text.contains("session_info"))
                for _ in 0..<3 { #expect(try await client.frame().text == #"{"type":"keepalive"}"#) }
            }
        }
    }

    @Test func `input that the command does not take does not hide its end`() async throws {
        try await withSprite { port, control in
            try await RawClient.connect(port) { client in
                _ = try await client.upgrade(exec + "?cmd=deaf&stdin=true")
                _ = try await client.frame()
                for _ in 0..<20 { try await client.send(opcode: 2, [0] + [UInt8](repeating: 1, count: 1 << 10)) }
                try await control.session(try SpriteName("demo"), "101").signal(15)
                #expect(try await client.frame().bytes == [3, 143])
                #expect(try await client.frame().opcode == 8)
            }
        }
    }

    @Test func `a shutdown closes with 1001 and tells no exit`() async throws {
        try await withSprite { port, control in
            let frames = Task {
                var frames: [RawClient.Frame] = []
                try await RawClient.connect(port) { client in
                    _ = try await client.upgrade("/v1/sprites/demo/exec?cmd=wait")
                    frames = try await client.framesToClose()
                }
                return frames
            }
            let name = try SpriteName("demo")
            for _ in 0..<500 {
                let session = try? await control.session(name, "101") as? FakeSession
                if session?.attachedCount == 1 { break }
                try await Task.sleep(for: .milliseconds(10))
            }
            shutdownFrames.withLockedValue { $0 = frames }
        }
        let task = try #require(shutdownFrames.withLockedValue { $0 })
        let frames = try await task.value
        #expect(frames.count == 2)
        #expect(frames.last?.bytes.prefix(2) == [0x03, 0xE9])
    }

    @Test func `a client that reads slowly gets everything`() async throws {
        try await withSprite { port, _ in
            try await RawClient.connect(port) { client in
                let size = 256 << 20
                _ = try await client.upgrade(exec + "?cmd=zeros&cmd=\(size)")
                _ = try await client.frame()
                var received = 0
                while true {
                    let frame = try await client.frame()
                    if frame.bytes.first == 3 { break }
                    #expect(frame.bytes.count <= 128 << 10 | 1)
                    received += frame.bytes.count - 1
                }
                #expect(received == size)
            }
        }
    }
}

private let shutdownFrames = NIOLockedValueBox<Task<[RawClient.Frame], any Error>?>(nil)
