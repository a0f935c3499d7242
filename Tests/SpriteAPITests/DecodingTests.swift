// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import SpriteAPI
import Testing

@Suite struct DecodingTests {
    private func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }

    @Test func `a sprite needs only its name`() throws {
        let sprite = try decode(
            API.Sprite.self,
            #"{"name":"x","status":"dreaming","labels":null,"config":7,"new":{"a":[1]},"last_running_at":3}"#)
        #expect(sprite.name == "x")
        #expect(sprite.status == "dreaming")
        #expect(sprite.labels == [])
        #expect(sprite.lastRunningAt == nil)
        #expect(throws: DecodingError.self) { try decode(API.Sprite.self, "{}") }
    }

    @Test func `a sprite survives the way there and back`() throws {
        var sprite = API.Sprite(
            id: "sprite-1", name: "x", organization: "local", status: "warm", url: "http://x", createdAt: "a",
            updatedAt: "b")
        sprite.environment = ["TOKEN": "hidden"]
        sprite.configuration = API.Configuration(memoryMiB: 5, cpus: 0.5, pids: 100)
        let data = try JSONEncoder().encode(sprite)
        #expect(try JSONDecoder().decode(API.Sprite.self, from: data) == sprite)
        #expect(!"\(sprite)".contains("hidden"))
    }

    @Test func `both spellings of a configuration are understood`() throws {
        let camel = try decode(API.Configuration.self, #"{"ramMB":2048,"cpus":2,"region":"ord","storageGB":50}"#)
        let snake = try decode(API.Configuration.self, #"{"ram_mb":2048,"cpus":2,"region":"ord","storage_gb":50}"#)
        #expect(camel == snake)
        #expect(camel.memoryMiB == 2048)
    }

    @Test(
        arguments: [(#"{"timeout":3}"#, "3.0s"), (#"{"timeout":"500ms"}"#, "500ms"), ("{}", nil)] as [(String, String?)]
    )
    func `the timeout of a kill is a number or a text`(_ text: String, _ timeout: String?) throws {
        #expect(try decode(API.KillSession.self, text).timeout == timeout)
    }

    @Test func `unknown messages are read without complaint`() throws {
        let message = try decode(API.TextMessage.self, #"{"type":"later","cols":"wide","x":null}"#)
        #expect(message.type == "later")
        #expect(message.columns == nil)
        #expect(try decode(API.TextMessage.self, "{}").type == "")
    }
}
