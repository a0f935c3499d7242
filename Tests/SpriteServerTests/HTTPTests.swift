// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteServer

private let allowed = ["Authorization": "Bearer org/1/secret"]

@Suite(.timeLimit(.minutes(1))) struct HTTPTests {
    struct Bad: Sendable, CustomStringConvertible {
        var method: String
        var path: String
        var body: String?
        var status: Int
        var code: String
        var sentence: String
        var description: String { "\(method) \(path) \(body?.prefix(40) ?? "")" }
        init(_ method: String, _ path: String, _ status: Int, _ code: String, _ sentence: String) {
            self.init(method, path, nil, status, code, sentence)
        }
        init(_ method: String, _ path: String, _ body: String?, _ status: Int, _ code: String, _ sentence: String) {
            (self.method, self.path, self.body) = (method, path, body)
            (self.status, self.code, self.sentence) = (status, code, sentence)
        }
    }

    static let bad: [Bad] = [
        Bad("GET", "/nowhere", 404, "not_found", "no such path"),
        Bad("GET", "/v1/sprites/%zz", 404, "not_found", "no such path"),
        Bad("PATCH", "/v1/sprites", 405, "method_not_allowed", "use GET, HEAD, POST"),
        Bad("DELETE", "/v1/sprites/demo/checkpoint", 405, "method_not_allowed", "use POST"),
        Bad("POST", "/v1/sprites", "", 400, "invalid_request", "it is empty"),
        Bad("POST", "/v1/sprites", "{\"name\": \"x\"", 400, "invalid_request", "it ends too early at byte 12"),
        Bad("POST", "/v1/sprites", "{}", 400, "invalid_request", "'name' is missing"),
        Bad("POST", "/v1/sprites", "[]", 400, "invalid_request", "must be an object"),
        Bad("POST", "/v1/sprites", "{\"name\": 3}", 400, "invalid_request", "'name' must be a string"),
        Bad("POST", "/v1/sprites", "{\"name\": \"Upper\"}", 400, "invalid_request", "invalid sprite name"),
        Bad(
            "POST", "/v1/sprites", "{\"name\": \"\(String(repeating: "a", count: 64))\"}", 400, "invalid_request",
            "it is 64 bytes, the limit is 63"),
        Bad("POST", "/v1/sprites", "{\"name\": \"demo\"}", 409, "already_exists", "is taken"),
        Bad(
            "POST", "/v1/sprites", "{\"name\":\"x\",\"config\":{\"ram_mb\":1}}", 400, "invalid_request", "ram_mb is 1"),
        Bad(
            "POST", "/v1/sprites", "{\"name\":\"x\",\"config\":{\"cpus\":-1}}", 400, "invalid_request", "cpus is -1"),
        Bad(
            "POST", "/v1/sprites", "{\"name\":\"x\",\"config\":{\"ramMB\":\"big\"}}", 400, "invalid_request",
            "'config.ramMB' must be a whole number"),
        Bad(
            "POST", "/v1/sprites", "{\"name\":\"x\",\"environment\":{\"A=B\":\"1\"}}", 400, "invalid_request",
            "names must not be empty"),
        Bad(
            "POST", "/v1/sprites", "{\"name\":\"x\",\"url_settings\":{\"auth\":\"all\"}}", 400, "invalid_request",
            "use 'sprite' or 'public'"),
        Bad("GET", "/v1/sprites/ghost", 404, "not_found", "no sprite named 'ghost'"),
        Bad("GET", "/v1/sprites/No%2FName", 404, "not_found", "no sprite named"),
        Bad("DELETE", "/v1/sprites/ghost", 404, "not_found", "no sprite named"),
        Bad("GET", "/v1/sprites/ghost/control", 404, "not_found", "no sprite named"),
        Bad("GET", "/v1/sprites/demo/nothing", 404, "not_found", "no such path"),
        Bad("GET", "/v1/sprites/demo/fs/nothing", 404, "not_found", "no such path"),
        Bad("GET", "/v1/sprites?max_results=many", 400, "invalid_request", "max_results"),
        Bad("GET", "/v1/sprites?continuation_token=%21", 400, "invalid_request", "continuation_token"),
        Bad("POST", "/v1/sprites/demo/fork", "{\"name\":\"demo\"}", 409, "already_exists", "is taken"),
        Bad(
            "POST", "/v1/sprites/demo/fork", "{\"name\":\"n\",\"checkpoint\":\"x\"}", 404, "not_found",
            "no checkpoint 'x'"),
        Bad("GET", "/v1/sprites/demo/checkpoints/v7", 404, "not_found", "no checkpoint 'v7'"),
        Bad("DELETE", "/v1/sprites/demo/checkpoints/v0", 409, "conflict", "descends from it"),
        Bad("DELETE", "/v1/sprites/demo/checkpoints/Current", 409, "conflict", "live state"),
        Bad("POST", "/v1/sprites/demo/checkpoints/v7/restore", 404, "not_found", "no checkpoint"),
        Bad("POST", "/v1/sprites/demo/checkpoints/undo/restore", 404, "not_found", "there was no restore"),
        Bad("POST", "/v1/sprites/demo/restore/undo", 404, "not_found", "there was no restore"),
        Bad(
            "POST", "/v1/sprites/demo/checkpoint", "{\"comment\":\"late failure\"}", 507, "no_space", "the pool is full"
        ),
        Bad("POST", "/v1/sprites/demo/exec", 400, "invalid_request", "no 'cmd'"),
        Bad("POST", "/v1/sprites/demo/exec?cmd=x&tty=true", 400, "invalid_request", "need a WebSocket"),
        Bad("POST", "/v1/sprites/demo/exec?cmd=x&env=novalue", 400, "invalid_request", "NAME=VALUE"),
        Bad("POST", "/v1/sprites/demo/exec?cmd=%ff", 400, "invalid_request", "not UTF-8"),
        Bad("POST", "/v1/sprites/demo/exec?cmd=%00", 400, "invalid_request", "NUL"),
        Bad("POST", "/v1/sprites/demo/exec?cmd=x&max_run_after_disconnect=soon", 400, "invalid_request", "10s"),
        Bad("GET", "/v1/sprites/demo/exec/7", 404, "not_found", "over a WebSocket"),
        Bad("POST", "/v1/sprites/demo/exec/7/kill", 404, "not_found", "no session '7'"),
        Bad("POST", "/v1/sprites/demo/exec/7/kill?signal=NO", 400, "invalid_request", "signal 'NO'"),
    ]

    @Test(arguments: bad) func `bad input has its status, code and sentence`(_ bad: Bad) async throws {
        try await withServer { port, control in
            _ = try await control.create(SpriteCreation(name: try SpriteName("demo")))
            try await RawClient.connect(port) { client in
                try await client.request(bad.method, bad.path, body: bad.body)
                let answer = try await client.answer()
                #expect(answer.status == bad.status)
                #expect(answer.body.contains("\"error\":\"\(bad.code)\""))
                #expect(answer.body.contains(bad.sentence), "\(answer.body)")
                #expect(answer.headers["content-type"] == "application/json")
                #expect(answer.headers["x-request-id"]?.count == 16)
                // The connection still works.
                try await client.request("GET", "/health")
                #expect(try await client.answer().status == 200)
            }
        }
    }

    @Test(
        arguments: [
            (nil, 401), ("Bearer wrong", 401), ("Bearer ", 401), ("Basic YmVhcmVyOm9yZy8xL3NlY3JldA==", 200),
            ("Basic cm9vdDpvcmcvMS9zZWNyZXQ=", 401), ("bearer org/1/secret", 200), ("Bearer org/1/secret", 200),
        ] as [(String?, Int)])
    func `tokens are checked`(_ value: String?, _ status: Int) async throws {
        try await withServer { port, _ in
            try await RawClient.connect(port) { client in
                try await client.request("GET", "/v1/sprites", value.map { ["Authorization": $0] } ?? [:])
                let answer = try await client.answer()
                #expect(answer.status == status)
                #expect(!answer.body.contains("secret"))
            }
        }
    }

    @Test func `a sprite is created, listed, updated and destroyed`() async throws {
        try await withServer { port, _ in
            try await RawClient.connect(port) { client in
                let body =
                    #"{"name":"build-box","config":{"ramMB":2048,"cpus":2,"storageGB":5},"environment":{"TZ":"UTC"},"#
                    + #""labels":["b","a"],"runtime":"dev","unknown":[{}]}"#
                try await client.request("POST", "/v1/sprites", body: body)
                let created = try await client.answer()
                #expect(created.status == 201)
                #expect(created.headers["sprite-version"] == "1.2.3")
                #expect(created.body.contains(#""config":{"cpus":2,"disk_mb":5120,"ram_mb":2048,"storage_gb":5}"#))
                #expect(created.body.contains(#""created_at":"2026-02-03T04:05:06.123456Z""#))
                #expect(created.body.contains(#""labels":["b","a"]"#))
                #expect(created.body.contains(#""url":"http://build-box.sprites.localhost:\#(port)""#))
                #expect(created.body.contains(#""last_running_at":null"#))
                for name in ["one", "two", "three"] {
                    try await client.request("POST", "/v1/sprites", body: #"{"name":"\#(name)"}"#)
                    #expect(try await client.answer().status == 201)
                }
                try await client.request("GET", "/v1/sprites?max_results=3")
                let page = try await client.answer().body
                #expect(page.contains(#""has_more":true"#))
                let token = try #require(page.firstMatch(of: /"next_continuation_token":"([^"]+)"/)?.1)
                try await client.request("GET", "/v1/sprites?max_results=100&continuation_token=\(token)")
                let last = try await client.answer().body
                #expect(last.contains(#""has_more":false,"next_continuation_token":null"#))
                #expect(last.contains(#""name":"two""#))
                try await client.request(
                    "PUT", "/v1/sprites/build-box",
                    body: #"{"url_settings":{"auth":"public"},"clear_labels":true,"config":{"cpus":0}}"#)
                let updated = try await client.answer()
                #expect(updated.status == 200)
                #expect(updated.body.contains(#""auth":"public""#))
                #expect(updated.body.contains(#""labels":[]"#))
                #expect(updated.body.contains(#""config":{"disk_mb":5120,"ram_mb":2048,"storage_gb":5}"#))
                try await client.request("HEAD", "/v1/sprites/build-box/exec")
                #expect(try await client.answer(isHead: true).headers["sprite-version"] == "1.2.3")
                try await client.request("DELETE", "/v1/sprites/build-box")
                #expect(try await client.answer().status == 204)
                try await client.request("GET", "/v1/sprites/build-box")
                #expect(try await client.answer().status == 404)
            }
        }
    }

    @Test func `checkpoints stream their lines`() async throws {
        try await withServer { port, control in
            _ = try await control.create(SpriteCreation(name: try SpriteName("demo")))
            try await RawClient.connect(port) { client in
                try await client.request("POST", "/v1/sprites/demo/checkpoint", body: #"{"comment":"works"}"#)
                let created = try await client.answer()
                #expect(created.status == 200)
                #expect(created.headers["content-type"] == "application/x-ndjson")
                let lines = created.body.split(separator: "\n")
                #expect(lines.first?.contains("Creating checkpoint...") == true)
                #expect(created.body.contains("ID: v1"))
                let last = try #require(lines.last)
                #expect(last.contains(#""type":"complete""#) && last.contains("Checkpoint v1 created"))
                #expect(last.contains(#""flush_ms":1.2"#) && last.contains(#""snapshot_ms":5.25"#))
                // Without a body, and one that fails after it had begun to tell how it goes.
                try await client.request("POST", "/v1/sprites/demo/checkpoint")
                #expect(try await client.answer().body.contains("Checkpoint v2 created"))
                try await client.request("POST", "/v1/sprites/demo/checkpoint", body: #"{"comment":"slow"}"#)
                let failed = try await client.answer()
                #expect(failed.status == 200)
                #expect(failed.body.contains(#""code":"no_space""#) && failed.body.contains(#""type":"error""#))
                try await client.request("GET", "/v1/sprites/demo/checkpoints")
                let list = try await client.answer().body
                #expect(list.hasPrefix(#"[{"comment":null"#) || list.hasPrefix(#"[{"create_time""#), "\(list)")
                try await client.request("GET", "/v1/sprites/demo/checkpoints/v2")
                #expect(try await client.answer().body.contains(#""history":["v1","v0"]"#))
                try await client.request("GET", "/v1/sprites/demo/checkpoints?history=v1")
                #expect(try await client.answer().body.contains(#""id":"v2""#))
                try await client.request("POST", "/v1/sprites/demo/checkpoints/v1/restore")
                let restored = try await client.answer().body
                #expect(restored.contains("Restored from v1") && restored.contains(#""replaced_id":"auto-1""#))
            }
        }
    }

    @Test func `a fault of ours is told by a request id only`() async throws {
        struct Secret: Error { let text = "password" }
        try await withServer { port, control in
            control.fail(with: Secret())
            try await RawClient.connect(port) { client in
                try await client.request("GET", "/v1/sprites/demo")
                let answer = try await client.answer()
                #expect(answer.status == 500)
                #expect(!answer.body.contains("password"))
                #expect(answer.body.contains(try #require(answer.headers["x-request-id"])))
            }
        }
    }

    @Test func `a body over the limit is refused without being read`() async throws {
        try await withServer { port, _ in
            try await RawClient.connect(port) { client in
                try await client.send(
                    "POST /v1/sprites HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer org/1/secret\r\n"
                        + "Content-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n")
                let answer = try await client.answer()
                #expect(answer.status == 413)
                #expect(answer.headers["connection"] == "close")
                #expect(try await client.isClosedByServer())
            }
            try await RawClient.connect(port) { client in
                try await client.send(
                    "POST /v1/sprites HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer org/1/secret\r\n"
                        + "Transfer-Encoding: chunked\r\n\r\n")
                let chunk = "10000\r\n" + String(repeating: " ", count: 0x10000) + "\r\n"
                for _ in 0..<17 { try await client.send(chunk) }
                #expect(try await client.answer().status == 413)
            }
        }
    }

    @Test func `a client that expects it is told to continue`() async throws {
        try await withServer { port, _ in
            try await RawClient.connect(port) { client in
                try await client.send(
                    "POST /v1/sprites HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer org/1/secret\r\n"
                        + "Content-Length: 12\r\nExpect: 100-continue\r\n\r\n")
                #expect(try await client.answer().status == 100)
                try await client.send(#"{"name":"x"}"#)
                #expect(try await client.answer().status == 201)
            }
        }
    }

    @Test func `garbage gets an answer and the connection ends`() async throws {
        try await withServer { port, _ in
            try await RawClient.connect(port) { client in
                try await client.send([0x16, 0x03, 0x01, 0x00, 0xFF, 0x0A, 0x0A])
                #expect(try await client.answer().status == 400)
                #expect(try await client.isClosedByServer())
            }
            try await RawClient.connect(port) { client in
                try await client.request("GET", "/health")
                #expect(try await client.answer().status == 200)
                try await client.send("not http\r\n\r\n")
                #expect(try await client.answer().status == 400)
                #expect(try await client.isClosedByServer())
            }
        }
    }

    @Test func `three megabytes of query are understood, and more than the limit is refused`() async throws {
        try await withServer { port, control in
            _ = try await control.create(SpriteCreation(name: try SpriteName("demo")))
            try await RawClient.connect(port) { client in
                let argument = String(repeating: "%41", count: 1 << 20)
                try await client.request("POST", "/v1/sprites/demo/exec?cmd=say&cmd=\(argument)&cmd=&cmd=0")
                let answer = try await client.answer()
                #expect(answer.status == 200)
                #expect(answer.body.utf8.filter { $0 == 0x41 }.count == 1 << 20)
            }
            try await RawClient.connect(port) { client in
                try await client.send("GET /" + String(repeating: "a", count: 17 << 20))
                #expect(try await client.answer().status == 431)
            }
        }
    }

    @Test func `a command runs over plain HTTP, one frame a chunk`() async throws {
        try await withServer { port, control in
            _ = try await control.create(SpriteCreation(name: try SpriteName("demo")))
            try await RawClient.connect(port) { client in
                try await client.request("POST", "/v1/sprites/demo/exec?cmd=say&cmd=out&cmd=err&cmd=7")
                let answer = try await client.answer()
                #expect(answer.headers["content-type"] == "application/octet-stream")
                #expect(answer.chunks == [[1] + Array("out".utf8), [2] + Array("err".utf8), [3, 7]])
            }
            try await RawClient.connect(port) { client in
                try await client.request("POST", "/v1/sprites/demo/exec?cmd=cat&stdin=true", body: "hello")
                #expect(try await client.answer().chunks == [[1] + Array("hello".utf8), [3, 0]])
            }
        }
    }

    @Test func `a session is listed and killed`() async throws {
        try await withServer { port, control in
            let name = try SpriteName("demo")
            _ = try await control.create(SpriteCreation(name: name))
            let session = try await control.exec(name, ExecRequest(arguments: ["wait", "long"]))
            try await RawClient.connect(port) { client in
                try await client.request("GET", "/v1/sprites/demo/exec")
                let list = try await client.answer().body
                #expect(list.contains(#""command":"/usr/bin/wait long""#) && list.contains(#""count":1"#))
                let path = "/v1/sprites/demo/exec/\(session.info.id)/kill"
                try await client.request("POST", path, body: #"{"signal":"INT","timeout":3}"#)
                let lines = try await client.answer().body.split(separator: "\n")
                #expect(lines.count == 3)
                #expect(lines[0].contains(#""signal":"SIGINT""#))
                #expect(lines[2] == #"{"exit_code":130,"type":"complete"}"#)
                try await client.request("POST", path)
                #expect(try await client.answer().status == 410)
                try await client.request("GET", "/v1/sprites/demo/exec")
                #expect(try await client.answer().body == #"{"count":0,"sessions":[]}"#)
            }
        }
    }
}
