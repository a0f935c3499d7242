// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Synchronization
import Testing

@testable import Sprites

extension FakeConnection {
    /// The next message about an operation; what else comes is left out.
    func readStart() throws -> String {
        while true {
            let frame = try readFrame()
            let text = String(decoding: frame.data, as: UTF8.self)
            if frame.opcode == 1, text.hasPrefix("control:") { return text }
            guard frame.opcode != 8 else { throw FakeServerError("the client closed") }
        }
    }

    func complete(_ code: Int, then more: [UInt8] = []) throws {
        let complete = #"control:{"type":"op.complete","args":{"ok":true,"exitCode":\#(code)}}"#
        try write(FakeConnection.frame(2, [3, UInt8(code)]) + FakeConnection.text(complete) + more)
    }
}

@Suite(.timeLimit(.minutes(1))) struct ControlTests {
    @Test func `commands follow each other on one connection`() async throws {
        let connections = Atomic(0)
        let starts = Mutex<[String]>([])
        let results = try await FakeServer.with(
            control: true,
            script: { connection in
                connections.add(1, ordering: .relaxed)
                let request = try connection.readRequest()
                #expect(request.target == "/v1/sprites/de%2Fmo/control")
                try connection.upgrade(request)
                for number in 0... {
                    let start = try connection.readStart()
                    starts.withLock { $0.append(start) }
                    try connection.write(FakeConnection.info() + FakeConnection.binary(1, "\(number)"))
                    try connection.complete(number)
                }
            }
        ) { client in
            var options = CommandOptions()
            options.environment = ["K": "ä"]
            let command = client.sprite("de/mo").command(["a", "b c"], options)
            return [try await command.run(), try await command.run(), try await command.run()]
        }
        #expect(results.map(\.stdoutText) == ["0", "1", "2"])
        #expect(results.map(\.exitCode) == [0, 1, 2])
        #expect(connections.load(ordering: .relaxed) == 1)
        struct Start: Decodable, Equatable {
            struct Arguments: Decodable, Equatable {
                var cmd: [String]
                var env: [String]
                var path: String
                var stdin: String
            }
            var type: String
            var op: String
            var args: Arguments
        }
        let start = try JSONDecoder().decode(Start.self, from: Data(starts.withLock { $0[0] }.dropFirst(8).utf8))
        let arguments = Start.Arguments(cmd: ["a", "b c"], env: ["K=ä"], path: "a", stdin: "false")
        #expect(start == Start(type: "op.start", op: "exec", args: arguments))
    }

    @Test func `a refused command has the server's error, and the next one works`() async throws {
        let codes = try await FakeServer.with(
            control: true,
            script: { connection in
                try connection.upgrade(try connection.readRequest())
                while true {
                    guard try connection.readStart().contains("good") else {
                        let error = #"control:{"type":"op.error","args":{"code":"not_found","error":"no such user"}}"#
                        try connection.write(FakeConnection.text(error))
                        continue
                    }
                    try connection.write(FakeConnection.info())
                    try connection.complete(0)
                }
            }
        ) { client in
            let sprite = client.sprite("demo")
            let error = await #expect(throws: SpritesError.self) { try await sprite.command("bad").run() }
            let code = try await sprite.command("good").run().exitCode
            return (error?.code, error?.message, code)
        }
        #expect(codes == (.notFound, "no such user", 0))
    }

    @Test(arguments: [true, false])
    func `a command whose connection is lost is not sent again`(isKnown: Bool) async throws {
        let starts = Atomic(0)
        let error = try await FakeServer.with(
            control: true,
            script: { connection in
                try connection.upgrade(try connection.readRequest())
                _ = try connection.readStart()
                starts.add(1, ordering: .relaxed)
                if isKnown { try connection.write(FakeConnection.info()) }
            }
        ) { client in
            await #expect(throws: SpritesError.self) { try await client.sprite("demo").command("x").run() }
        }
        #expect(starts.load(ordering: .relaxed) == 1)
        #expect(error?.code == .connectionLost)
        #expect(error?.mayBeRunning == true)
        #expect(error?.sessionID == (isKnown ? "42" : nil))
    }

    @Test func `a kept connection that the server closed is replaced`() async throws {
        let connections = Atomic(0)
        let codes = try await FakeServer.with(
            control: true,
            script: { connection in
                connections.add(1, ordering: .relaxed)
                try connection.upgrade(try connection.readRequest())
                _ = try connection.readStart()
                try connection.write(FakeConnection.info())
                // In one packet, so that the client knows of it before it sends another command.
                try connection.complete(5, then: FakeConnection.frame(8, [0x03, 0xE9]))
            }
        ) { client in
            var codes: [Int32] = []
            for _ in 0..<20 { codes.append(try await client.sprite("demo").command("x").run().exitCode) }
            return codes
        }
        #expect(codes == Array(repeating: 5, count: 20))
        #expect(connections.load(ordering: .relaxed) == 20)
    }

    @Test func `a handle of a command that ended cannot touch the next one on its connection`() async throws {
        let seen = Mutex<[[UInt8]]>([])
        let code = try await FakeServer.with(
            control: true,
            script: { connection in
                try connection.upgrade(try connection.readRequest())
                for _ in 0..<2 {
                    _ = try connection.readStart()
                    try connection.write(FakeConnection.info())
                    let frame = try connection.readFrame()
                    seen.withLock { $0.append(frame.data) }
                    try connection.complete(7)
                }
                connection.waitForClose()
            }
        ) { client in
            let command = client.sprite("demo").command("cat")
            let first = try await command.start()
            try await first.write("1")
            #expect(try await first.exitCode() == 7)
            let second = try await command.start()
            await #expect(throws: SpritesError.self) { try await first.write("of the first") }
            first.closeInput()
            first.disconnect()
            try await second.write("2")
            return try await second.exitCode()
        }
        #expect(code == 7)
        #expect(seen.withLock { $0 } == [[0, 0x31], [0, 0x32]])
    }

    @Test func `a server without control connections gets a connection for each command`() async throws {
        let targets = Mutex<[String]>([])
        let codes = try await FakeServer.with(
            control: true,
            script: { connection in
                let request = try connection.readRequest()
                targets.withLock { $0.append(String(request.target.prefix { $0 != "?" })) }
                guard request.target.contains("/exec") else {
                    return try connection.answer(404, #"{"error":"not_found","message":"there is no such path"}"#)
                }
                try connection.upgrade(request, early: FakeConnection.info() + FakeConnection.frame(2, [3, 3]))
                connection.waitForClose()
            }
        ) { client in
            let command = client.sprite("demo").command("x")
            return [try await command.run().exitCode, try await command.run().exitCode]
        }
        #expect(codes == [3, 3])
        let place = "/v1/sprites/demo"
        #expect(targets.withLock { $0 } == ["\(place)/control", "\(place)/exec", "\(place)/exec"])
    }

    @Test func `more commands than connections wait their turn`() async throws {
        let open = Atomic(0)
        let most = Atomic(0)
        var options = SpritesClient.Options()
        options.connectionsMax = 3
        let sum = try await FakeServer.with(
            control: true, options: options,
            script: { connection in
                try connection.upgrade(try connection.readRequest())
                while true {
                    _ = try connection.readStart()
                    most.max(open.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
                    try connection.write(FakeConnection.info())
                    open.subtract(1, ordering: .relaxed)
                    try connection.complete(1)
                }
            }
        ) { client in
            try await withThrowingTaskGroup(of: Int32.self) { group in
                for _ in 0..<50 { group.addTask { try await client.sprite("demo").command("x").run().exitCode } }
                return try await group.reduce(0, +)
            }
        }
        #expect(sum == 50)
        #expect((1...3).contains(most.load(ordering: .relaxed)))
    }
}
