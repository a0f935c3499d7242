// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

private func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

/// The first three are of FIPS 180-4's examples; the others, made with `sha256sum`, lie around the ends of blocks.
@Test(arguments: [
    ("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    ("a", 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"),
    ("a", 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"),
    ("a", 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"),
    ("a", 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"),
    ("a", 1000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"),
])
func `hashes are those of others`(text: String, count: Int, hash: String) {
    #expect(hexadecimal(SHA256.hash(Array(String(repeating: text, count: count).utf8))) == hash)
}

@Test(arguments: [
    ("all", "all"), ("read", "read"), ("sprite:web", "sprite:web"), ("sprite:ci-*", "sprite:ci-*"),
    ("sprite:web,read", "sprite:web,read"), ("read,sprite:web", "sprite:web,read"),
])
func `scopes are read and written`(text: String, written: String) throws {
    #expect(try "\(AccessScope(text))" == written)
}

@Test(arguments: [
    "", "ALL", "all,read", "read,read", "sprite:", "sprite:*", "sprite:A", "sprite:-*", "sprite:a,sprite:b", "x",
])
func `what is no scope is refused`(text: String) {
    #expect(throws: SpriteError.self) { try AccessScope(text) }
}

@Test func `a scope has its own sprites and no others`() throws {
    #expect(try AccessScope("sprite:web").includes("web"))
    #expect(try !AccessScope("sprite:web").includes("web-2"))
    #expect(try AccessScope("sprite:ci-*").includes("ci-7"))
    #expect(try !AccessScope("sprite:ci-*").includes("ci"))
    let reader = AccessGrant(tokenID: "1", scope: try AccessScope("sprite:web,read"))
    #expect(throws: Never.self) { try reader.require("web", toWrite: false) }
    #expect(throws: SpriteError.self) { try reader.require("web", toWrite: true) }
    #expect(throws: SpriteError.self) { try reader.require("db", toWrite: false) }
    #expect(throws: SpriteError.self) { try reader.requireAllSprites(toWrite: false) }
}
