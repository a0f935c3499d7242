// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteServer

/// Clients that take their time, in each part of a request.
@Suite(.timeLimit(.minutes(1))) struct DeadlineTests {
    private func server(_ body: (RawClient) async throws -> Void) async throws {
        try await withServer { configuration in
            // Long enough for a machine that is busy to send something whole.
            configuration.timing.requestHead = .seconds(2)
            configuration.timing.requestBody = .seconds(2)
            configuration.timing.idleConnection = .seconds(2)
        } _: { port, _ in
            try await RawClient.connect(port, body)
        }
    }

    @Test func `a first head that does not end is given up`() async throws {
        try await server { client in
            try await client.send("GET /health HTTP/1.1\r\nHost: local")
            #expect(try await client.isClosedByServer())
        }
    }

    @Test func `so is a later one`() async throws {
        try await server { client in
            try await client.request("GET", "/health")
            #expect(try await client.answer().status == 200)
            try await client.send("GET /health HTTP/1.1\r\nHost: local")
            #expect(try await client.isClosedByServer())
        }
    }

    @Test func `so is a body`() async throws {
        try await server { client in
            try await client.send(
                "POST /v1/sprites HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer org/1/secret\r\n"
                    + "Content-Length: 12\r\n\r\n{")
            #expect(try await client.isClosedByServer())
        }
    }

    @Test func `more connections than there may be are closed`() async throws {
        try await withServer { configuration in
            configuration.connectionsMax = 1
        } _: { port, _ in
            try await RawClient.connect(port) { first in
                try await first.request("GET", "/health")
                #expect(try await first.answer().status == 200)
                try await RawClient.connect(port) { second in
                    let isClosed = try await second.isClosedByServer()
                    #expect(isClosed)
                }
                try await first.request("GET", "/health")
                #expect(try await first.answer().status == 200)
            }
        }
    }
}
