// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Synchronization
import Testing

@testable import Sprites

@Suite(.timeLimit(.minutes(1))) struct CommandTests {
    @Test func `output is sorted by stream and the exit code is the command's`() async throws {
        let target = Mutex("")
        let result = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            target.withLock { $0 = request.target }
            // Everything in one packet with the handshake, a message in fragments, and things of newer servers.
            try connection.upgrade(
                request,
                early: FakeConnection.info() + FakeConnection.binary(1, "one ") + FakeConnection.binary(2, "err")
                    + FakeConnection.text(#"{"type":"keepalive"}"#) + FakeConnection.binary(9, "?")
                    + FakeConnection.text("not json") + FakeConnection.frame(2, [1, 0x74], isLast: false)
                    + FakeConnection.frame(9, [1]) + FakeConnection.frame(0, Array("wo".utf8))
                    + FakeConnection.binary(1, "") + FakeConnection.frame(2, [3, 7]))
            connection.waitForClose()
        }) { client in
            var options = CommandOptions()
            options.directory = "/a b"
            options.environment = ["K": "ä=1&2"]
            options.user = "root"
            return try await client.sprite("de/mo").command(["sh", "-c", "a+b c"], options).run()
        }
        #expect(result.stdoutText == "one two")
        #expect(result.stderrText == "err")
        #expect(result.exitCode == 7)
        #expect(
            target.withLock { $0 }
                == "/v1/sprites/de%2Fmo/exec?cmd=sh&cmd=-c&cmd=a%2Bb%20c&path=sh&env=K%3D%C3%A4%3D1%262&dir=%2Fa%20b"
                + "&stdin=false&user=root")
    }

    @Test func `input arrives whole and is ended once`() async throws {
        let input = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let result = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info())
            var received: [UInt8] = []
            while true {
                let frame = try connection.readFrame()
                guard frame.opcode == 2, let stream = frame.data.first else { continue }
                if stream == 4 { break }
                received += frame.data.dropFirst()
            }
            try connection.write(FakeConnection.binary(1, "\(received == input)"))
            try connection.write(FakeConnection.frame(2, [3, 0]))
            connection.waitForClose()
        }) { try await $0.sprite("demo").command("cat").run(input: input) }
        #expect(result.stdoutText == "true")
        #expect(result.isSuccess)
    }

    @Test func `a command that does not read its input is no error`() async throws {
        let result = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info() + FakeConnection.frame(2, [3, 1]))
            connection.waitForClose()
        }) { try await $0.sprite("demo").command("false").run(input: Array(repeating: 1, count: 8 << 20)) }
        #expect(result.exitCode == 1)
    }

    enum Loss: CaseIterable, Sendable {
        case beforeAnswer, beforeInfo, afterInfo, afterOutput, insideFrame, closedNormally, goingAway, noCode, garbage
    }

    @Test(arguments: Loss.allCases)
    func `a lost connection is never an exit code`(loss: Loss) async throws {
        let error = await #expect(throws: SpritesError.self) {
            try await FakeServer.with(script: { connection in
                let request = try connection.readRequest()
                if loss == .beforeAnswer { return }
                try connection.upgrade(request)
                if loss == .beforeInfo { return }
                try connection.write(FakeConnection.info())
                switch loss {
                case .beforeAnswer, .beforeInfo, .afterInfo: break
                case .afterOutput: try connection.write(FakeConnection.binary(1, "some"))
                case .insideFrame: try connection.write([0x82, 100, 1, 2, 3])
                case .closedNormally: try connection.write(FakeConnection.frame(8, [0x03, 0xE8]))
                case .goingAway: try connection.write(FakeConnection.frame(8, [0x03, 0xE9]))
                case .noCode:
                    try connection.write(FakeConnection.frame(2, [3]))
                    connection.waitForClose()
                case .garbage: try connection.write([UInt8](repeating: 0xFF, count: 64))
                }
            }) { try await $0.sprite("demo").command("true").run() }
        }
        #expect(error?.code == (loss == .noCode ? .invalidResponse : .connectionLost))
    }

    @Test func `a command that cannot start has an exit code but no session`() async throws {
        let result = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(
                request, early: FakeConnection.binary(2, "no such user\n") + FakeConnection.frame(2, [3, 127]))
            connection.waitForClose()
        }) { try await $0.sprite("demo").command("true").run() }
        #expect(result == CommandResult(exitCode: 127, stdout: [], stderr: Array("no such user\n".utf8)))
    }

    @Test func `a refusal is the server's own error`() async throws {
        let error = await #expect(throws: SpritesError.self) {
            try await FakeServer.with(script: { connection in
                _ = try connection.readRequest()
                try connection.answer(404, #"{"error":"not_found","message":"no sprite"}"#)
            }) { try await $0.sprite("demo").command("true").run() }
        }
        #expect(error?.code == .notFound)
        #expect(error?.message == "no sprite")
        #expect(error?.status == 404)
    }

    @Test func `a terminal is raw bytes, and its exit a message`() async throws {
        let messages = Mutex<[String]>([])
        let (text, code) = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            messages.withLock { $0.append(request.target) }
            try connection.upgrade(
                request, early: FakeConnection.info(tty: true) + FakeConnection.frame(2, [3, 1, 2, 0x41]))
            for _ in 0..<3 {
                let frame = try connection.readFrame()
                messages.withLock { $0.append(String(decoding: frame.data, as: UTF8.self)) }
            }
            try connection.write(FakeConnection.text(#"{"type":"exit","exit_code":130}"#))
            try connection.write(FakeConnection.frame(8, [0x0F, 0xA0]))
            connection.waitForClose()
        }) { client in
            var options = CommandOptions()
            options.terminal = TerminalSize(rows: 50, columns: 132)
            let running = try await client.sprite("demo").command(["sh"], options).start()
            #expect(running.isTerminal)
            #expect(running.sessionID == "42")
            running.resize(TerminalSize(rows: 1, columns: 2))
            try running.signal("INT")
            try await running.write("ls\n")
            var bytes: [UInt8] = []
            for try await chunk in running.output { bytes += chunk.bytes }
            return (bytes, try await running.exitCode())
        }
        #expect(text == [3, 1, 2, 0x41])
        #expect(code == 130)
        #expect(
            messages.withLock { $0 } == [
                "/v1/sprites/demo/exec?cmd=sh&path=sh&tty=true&rows=50&cols=132&stdin=true",
                #"{"type":"resize","cols":2,"rows":1}"#, #"{"type":"signal","signal":"INT"}"#, "ls\n",
            ])
    }

    @Test func `attaching takes the mode from the server`() async throws {
        let running = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info(tty: true))
            connection.waitForClose()
        }) { try await $0.sprite("demo").attach("42").isTerminal }
        #expect(running)
    }

    @Test func `cancelling a run ends it at once`() async throws {
        try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info() + FakeConnection.binary(1, "x"))
            connection.waitForClose()
        }) { client in
            let task = Task { try await client.sprite("demo").command("sleep 1000").run() }
            try await Task.sleep(for: .milliseconds(100))
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    @Test func `output nobody reads stops the server, and nothing of it is lost`() async throws {
        let total = 64 << 20
        let sent = Atomic(0)
        let sum = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info())
            let frame = FakeConnection.frame(2, [1] + [UInt8](repeating: 0x61, count: 1 << 20))
            for _ in 0..<total >> 20 {
                try connection.write(frame)
                sent.add(1, ordering: .relaxed)
            }
            try connection.write(FakeConnection.frame(2, [3, 0]))
            connection.waitForClose()
        }) { client in
            let running = try await client.sprite("demo").command("yes").start()
            try await Task.sleep(for: .milliseconds(500))
            // Our own 4 MiB, and what the two sockets hold.
            #expect(sent.load(ordering: .relaxed) < 32)
            var sum = 0
            for try await chunk in running.output { sum += chunk.count }
            #expect(try await running.exitCode() == 0)
            return sum
        }
        #expect(sum == total)
    }

    @Test func `collecting too much output is an error`() async throws {
        let error = await #expect(throws: SpritesError.self) {
            try await FakeServer.with(script: { connection in
                let request = try connection.readRequest()
                try connection.upgrade(
                    request,
                    early: FakeConnection.info() + FakeConnection.binary(1, "12345") + FakeConnection.frame(2, [3, 0]))
                connection.waitForClose()
            }) { try await $0.sprite("demo").command("yes").run(outputBytesMax: 4) }
        }
        #expect(error?.code == .outputLimit)
    }

    @Test func `discarded output does not hold the command back`() async throws {
        let code = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            try connection.upgrade(request, early: FakeConnection.info())
            let frame = FakeConnection.frame(2, [1] + [UInt8](repeating: 0x61, count: 1 << 20))
            for _ in 0..<16 { try connection.write(frame) }
            try connection.write(FakeConnection.frame(2, [3, 9]))
            connection.waitForClose()
        }) { client in
            let running = try await client.sprite("demo").command("yes").start()
            running.discardOutput()
            return try await running.exitCode()
        }
        #expect(code == 9)
    }
}
