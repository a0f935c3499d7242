// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteServer

@Suite struct FileTests {
    @Test(
        arguments: [
            ("/a/b", nil, "/a/b"), ("a", nil, "/a"), ("a", "/x", "/x/a"), ("a", "x", "/x/a"), ("../a", "/x/y", "/x/a"),
            ("/../../a", "/x", "/a"), ("", "/x", "/x"), ("//a//./b/", nil, "/a/b"), (".", nil, "/"),
            ("a b/ä", "/", "/a b/ä"),
        ] as [(String, String?, String)])
    func `paths are made absolute`(path: String, directory: String?, resolved: String) throws {
        #expect(try FilePath.resolve(path, in: directory) == resolved)
    }

    @Test(arguments: [
        ("a\u{0}b", "EINVAL"), (String(repeating: "x", count: 256), "ENAMETOOLONG"),
        (String(repeating: "/x", count: 2048), "ENAMETOOLONG"),
    ])
    func `paths that no file can have are refused`(path: String, code: String) {
        #expect { try FilePath.resolve(path, in: nil) } throws: { ($0 as? FileProblem)?.code == code }
    }

    @Test(
        arguments: [
            ("bytes=0-1", ["--first=0", "--last=1"]), ("bytes=5-", ["--first=5"]), ("bytes=-5", ["--suffix=5"]),
            ("Bytes = 1 - 2", ["--first=1", "--last=2"]), ("bytes=2-1", []), ("bytes=-", []), ("bytes=", []), ("", []),
            ("bytes=0-1,2-3", []), ("items=0-1", []), ("bytes=+1-2", []), ("bytes=1--2", []),
            ("bytes=99999999999999999999-", []),
        ] as [(String, [String])])
    func `ranges that are not one range of bytes are ignored`(text: String, options: [String]) {
        #expect(ByteRange.options(text) == options)
    }
}
