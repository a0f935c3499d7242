// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import Sprites

struct ServerAddressTests {
    @Test(arguments: [
        ("http://127.0.0.1:7780", "127.0.0.1", 7780, "", "127.0.0.1:7780"),
        ("http://example.org", "example.org", 80, "", "example.org"),
        ("https://example.org", "example.org", 443, "", "example.org"),
        ("https://example.org:443/", "example.org", 443, "", "example.org"),
        ("http://example.org:443/a/b//", "example.org", 443, "/a/b", "example.org:443"),
        ("http://[::1]:80", "::1", 80, "", "[::1]"),
        ("http://[::1]", "::1", 80, "", "[::1]"),
    ])
    func `a base URL is taken apart`(
        text: String, host: String, port: Int, prefix: String, authority: String
    ) throws {
        let address = try ServerAddress(text)
        #expect(address.host == host)
        #expect(address.port == port)
        #expect(address.prefix == prefix)
        #expect(address.authority == authority)
    }

    @Test(arguments: [
        "", "example.org", "ftp://x", "http://", "http://:80", "http://x:0", "http://x:65536", "http://x:a",
        "http://x y", "http://user@x", "http://x?a", "http://x#a", "http://[::1", "http://[::1]x", "http://x\r\nA: b",
    ])
    func `what is no base URL is refused`(text: String) {
        #expect(throws: SpritesError.self) { try ServerAddress(text) }
    }

    @Test(arguments: ["", "a b", "a\nb", "ä"])
    func `a token that cannot be in a header is refused`(token: String) {
        #expect(throws: SpritesError.self) { try SpritesClient(token: token) }
    }

    @Test(arguments: [
        ("  ID: v3", "v3"), ("Checkpoint v3 created", "v3"), ("Checkpoint v12 created in 3 ms", "v12"),
        ("Creating checkpoint...", nil), ("ID:", nil), ("", nil), ("Checkpoint", nil), ("Checkpoint v1 failed", nil),
    ])
    func `the id of a checkpoint is found in text`(text: String, id: String?) {
        #expect(checkpointID(text) == id)
    }
}
