// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Synchronization
import Testing

@testable import Sprites

@Suite(.timeLimit(.minutes(1))) struct RequestTests {
    @Test func `a list goes through all pages`() async throws {
        let names = try await FakeServer.with(script: { connection in
            while true {
                let request = try connection.readRequest()
                guard request.headers["authorization"] == "Bearer a/b/c" else { return try connection.answer(401, "") }
                switch request.target {
                case "/v1/sprites?max_results=50&prefix=a%2Fb":
                    try connection.answer(
                        200, #"{"sprites":[{"name":"a"},{"name":"b"}],"has_more":true,"next_continuation_token":"x y"}"#
                    )
                case "/v1/sprites?max_results=50&prefix=a%2Fb&continuation_token=x%20y":
                    try connection.answer(200, #"{"sprites":[],"has_more":true,"next_continuation_token":"z"}"#)
                case "/v1/sprites?max_results=50&prefix=a%2Fb&continuation_token=z":
                    // A server that says there is more, with the same token for ever.
                    try connection.answer(
                        200, #"{"sprites":[{"name":"c"}],"has_more":true,"next_continuation_token":"z"}"#)
                default:
                    try connection.answer(500, request.target)
                }
            }
        }) { client in
            var names: [String] = []
            for try await sprite in client.list(prefix: "a/b") { names.append(sprite.name) }
            return names
        }
        #expect(names == ["a", "b", "c"])
    }

    @Test func `create sends what is set and nothing else`() async throws {
        let body = Mutex("")
        let sprite = try await FakeServer.with(script: { connection in
            let request = try connection.readRequest()
            body.withLock { $0 = "\(request.method) \(request.target) \(request.body)" }
            try connection.answer(201, #"{"name":"demo","id":"s1","labels":["l"],"status":"running","unknown":[{}]}"#)
        }) { client in
            var options = SpriteOptions()
            options.limits.cpus = 0.5
            return try await client.create("demo", options).info
        }
        #expect(
            body.withLock { $0 } == #"POST /v1/sprites {"config":{"cpus":0.5},"name":"demo"}"#
                || body.withLock { $0 } == #"POST /v1/sprites {"name":"demo","config":{"cpus":0.5}}"#)
        #expect(sprite?.labels == ["l"])
        #expect(sprite?.status == "running")
    }

    struct Failure: Sendable {
        var status: Int
        var body: String
        var headers: [String: String] = [:]
        var code: SpritesError.Code
        var message: String
    }

    @Test(arguments: [
        Failure(
            status: 404, body: #"{"error":"not_found","message":"there is no sprite"}"#, code: .notFound,
            message: "there is no sprite"),
        Failure(status: 404, body: "", code: .notFound, message: "the server answered 404"),
        Failure(status: 401, body: "who are you\nmore", code: .unauthorized, message: "who are you"),
        Failure(status: 409, body: #"{"error":"name taken"}"#, code: .conflict, message: "name taken"),
        Failure(
            status: 418, body: #"{"error":"new_code","message":"m","extra":{}}"#, code: .init(rawValue: "new_code"),
            message: "m"),
        Failure(status: 507, body: "[1", code: .noSpace, message: "[1"),
        Failure(status: 502, body: "<html>", code: .internalError, message: "<html>"),
    ])
    func `an error keeps code, sentence and request id`(failure: Failure) async throws {
        let error = await #expect(throws: SpritesError.self) {
            try await FakeServer.with(script: { connection in
                _ = try connection.readRequest()
                try connection.answer(
                    failure.status, failure.body, headers: ["X-Request-Id": "r7", "Retry-After": "3"])
            }) { try await $0.get("demo").name }
        }
        #expect(error?.code == failure.code)
        #expect(error?.message == failure.message)
        #expect(error?.status == failure.status)
        #expect(error?.requestID == "r7")
        #expect(error?.retryAfter == .seconds(3))
    }

    @Test func `nobody listening is told from a lost connection`() async throws {
        let server = try FakeServer { _ in }
        defer { server.stop() }
        let port = server.port
        let lost = await #expect(throws: SpritesError.self) {
            try await SpritesClient.with(baseURL: "http://127.0.0.1:\(port)", token: "t") {
                try await $0.get("demo").name
            }
        }
        #expect(lost?.code == .connectionLost)
        let refused = await #expect(throws: SpritesError.self) {
            // Port 1 of loopback: nothing listens there.
            try await SpritesClient.with(baseURL: "http://127.0.0.1:1", token: "t") { try await $0.get("demo").name }
        }
        #expect(refused?.code == .cannotConnect)
        let refusedSocket = await #expect(throws: SpritesError.self) {
            try await SpritesClient.with(baseURL: "http://127.0.0.1:1", token: "t") {
                try await $0.sprite("demo").command("true").run()
            }
        }
        #expect(refusedSocket?.code == .cannotConnect)
    }

    private static func checkpoint(_ lines: String, cut: Bool = false) async throws -> CreatedCheckpoint {
        try await FakeServer.with(script: { connection in
            _ = try connection.readRequest()
            if cut {
                try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + lines)
            } else {
                try connection.answer(200, lines)
            }
        }) { try await $0.sprite("demo").createCheckpoint(comment: "c") }
    }

    @Test func `a checkpoint tells its id and its times`() async throws {
        let created = try await Self.checkpoint(
            """
            {"type":"info","data":"Creating checkpoint...","time":"2026-02-03T04:05:06Z"}

            {"type":"future","more":7}
            {"type":"complete","data":"Checkpoint v4 created","checkpoint_id":"v4","flush_ms":1.25,"snapshot_ms":5}
            """)
        #expect(created == CreatedCheckpoint(id: "v4", flush: .microseconds(1250), snapshot: .milliseconds(5)))
    }

    @Test func `a checkpoint of a server that only writes sentences has its id too`() async throws {
        let created = try await Self.checkpoint(
            """
            {"type":"info","data":"  ID: v9"}
            {"type":"complete","data":"done"}
            """)
        #expect(created == CreatedCheckpoint(id: "v9"))
    }

    @Test(arguments: [
        (#"{"type":"info","data":"  ID: v9"}"# + "\n", false, SpritesError.Code.connectionLost),
        (#"{"type":"info","data":"  ID: v9"}"# + "\n", true, SpritesError.Code.connectionLost),
        ("", false, SpritesError.Code.connectionLost),
        (#"{"type":"error","error":"full","code":"no_space"}"#, false, SpritesError.Code.noSpace),
        (#"{"type":"complete","data":"done"}"#, false, SpritesError.Code.invalidResponse),
        ("nonsense\n", false, SpritesError.Code.invalidResponse),
    ])
    func `a checkpoint that did not complete is an error`(
        lines: String, cut: Bool, code: SpritesError.Code
    ) async throws {
        let error = await #expect(throws: SpritesError.self) { try await Self.checkpoint(lines, cut: cut) }
        #expect(error?.code == code)
    }
}
