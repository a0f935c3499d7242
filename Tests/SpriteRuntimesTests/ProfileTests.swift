// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteRuntimes

@Suite struct ProfileTests {
    @Test func `a profile is read as it was written, use by use`() {
        let profile = RuntimesProfile(groups: [
            [.init(path: "/usr/bin/lua"), .init(path: "/usr/lib/large.so", blocks: [0, 1, 2, 7])],
            [.init(path: "/usr/bin/lua"), .init(path: "/opt/with space", blocks: [3])],
        ])
        let text = """
            /usr/bin/lua
            /usr/lib/large.so\t0-2,7

            /usr/bin/lua
            /opt/with space\t3

            """
        #expect(profile.text == text)
        #expect(RuntimesProfile(text: text) == profile)
        #expect(RuntimesProfile(text: "\n\n\n").isEmpty)
    }

    @Test(arguments: ["x", "-1", "3-1", "0-99999999", "", ","])
    func `blocks that are none mean the first`(blocks: String) {
        #expect(RuntimesProfile(text: "/file\t\(blocks)\n").groups == [[.init(path: "/file", blocks: [0])]])
    }

    @Test(
        arguments: [
            (
                "2026.11.22 18:04:12.6 [uid:0,gid:0,pid:17955] open (209,0x48800) [fh:11] - OK <0.000100>",
                .open(inode: 209)
            ),
            (
                "2026.11.22 18:04:12.6 [uid:0,gid:0,pid:1] read (209,4096,131072,11): (932) - OK <0.000573>",
                .read(inode: 209, offset: 131072, count: 4096)
            ),
            ("2026.11.22 18:04:12.6 [uid:0,gid:0,pid:1] lookup (3,open (1,2)]): - no such file", nil),
            ("2026.11.22 18:04:12.6 [uid:0,gid:0,pid:1] read (x,4096)", nil), ("#", nil), ("]", nil), ("] open (", nil),
        ] as [(String, AccessLog.Access?)])
    func `a line of the access log is an open, a read or nothing`(line: String, access: AccessLog.Access?) {
        #expect(AccessLog.access(Array(line.utf8)[...]) == access)
    }
}
