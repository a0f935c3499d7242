// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@Suite struct IdentifierTests {
    @Test(arguments: ["a", "build-box", "0", "a-b-c", String(repeating: "a", count: 63)])
    func `a DNS label is a sprite name`(_ text: String) throws {
        #expect(try SpriteName(text).rawValue == text)
    }

    @Test(arguments: [
        "", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "ä", "a\0", String(repeating: "a", count: 64),
    ])
    func `anything else is refused with a sentence`(_ text: String) {
        #expect {
            try SpriteName(text)
        } throws: { error in
            guard let error = error as? SpriteError else { return false }
            return error.code == .invalidRequest && error.message.hasPrefix("invalid sprite name: ")
        }
    }

    @Test func `the refusal of a long name says its length and the limit`() {
        let error = #expect(throws: SpriteError.self) { try SpriteName(String(repeating: "a", count: 80)) }
        #expect(error?.message == "invalid sprite name: it is 80 bytes, the limit is 63")
    }

    @Test(arguments: ["v0", "v1", "v4294967295", "auto-1"])
    func `a checkpoint id is read and printed alike`(_ text: String) {
        #expect(CheckpointID(text)?.rawValue == text)
    }

    @Test(arguments: [
        "", "v", "v-1", "v01", "v4294967296", "1", "V1", "auto-", "auto-x", "v1/..", "../v1", "v1 ", "Current",
    ])
    func `what is not a checkpoint id is nil`(_ text: String) {
        #expect(CheckpointID(text) == nil)
    }

    @Test func `a random sprite id survives being written and read`() {
        for _ in 0..<1000 {
            let id = SpriteID.random()
            #expect(SpriteID(rawValue: id.rawValue) == id)
        }
    }

    @Test(arguments: ["", "0123", "0123456789ABCDEF", "0123456789abcde/", "0123456789abcdef0"])
    func `a damaged sprite id is nil`(_ text: String) {
        #expect(SpriteID(rawValue: text) == nil)
    }

    @Test func `a bare base name means the newest version`() throws {
        let bases = try ["web", "web@2", "web@10", "other@3"].map { try BaseName($0) }
        #expect(bases.resolve(try BaseName("web"))?.rawValue == "web@10")
        #expect(bases.resolve(try BaseName("web@1"))?.rawValue == "web")
        #expect(bases.resolve(try BaseName("web@2"))?.rawValue == "web@2")
        #expect(bases.resolve(try BaseName("web@3")) == nil)
        #expect(bases.resolve(try BaseName("web-2")) == nil)
        #expect(BaseName(family: try BaseName("web@7"), version: 1).rawValue == "web")
        #expect(BaseName(family: try BaseName("web"), version: 3).rawValue == "web@3")
    }

    @Test(arguments: ["debian-bookworm", "ubuntu_24.04", "x", "x@2"])
    func `a base name is accepted`(_ text: String) throws {
        #expect(try BaseName(text).rawValue == text)
    }

    @Test(arguments: [
        "", ".", "..", ".x", "-x", "a/b", "A", "x@", "x@0", "x@01", "x@../y", "@2", String(repeating: "b", count: 101),
    ])
    func `a base name that could leave its directory is refused`(_ text: String) {
        #expect(throws: SpriteError.self) { try BaseName(text) }
    }

    @Test func `an exit status counts like a shell's`() {
        #expect(ExitStatus.exited(7).code == 7)
        #expect(ExitStatus.signaled(9).code == 137)
        #expect(ExitStatus.lost.code == 137)
    }
}
