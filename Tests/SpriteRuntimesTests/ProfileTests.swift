// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteRuntimes

@Suite struct ProfileTests {
    @Test func `a profile is read as it was written, use by use`() {
        let profile = RuntimesProfile(groups: [
            [.init(path: "/usr/bin/lua"), .init(path: "/usr/lib/large.so", ranges: Self.units(0..<3, 7..<8))],
            [.init(path: "/usr/bin/lua"), .init(path: "/opt/with space", ranges: Self.units(3..<4))],
        ])
        let text = """
            unit 65536
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
    func `units that are none mean the first`(units: String) {
        #expect(RuntimesProfile(text: "unit 65536\n/file\t\(units)\n").groups == [[.init(path: "/file")]])
    }

    @Test(arguments: ["", "unit 0\n", "unit x\n", "unit 99999999\n"])
    func `a profile that does not say its unit counts in 4 MiB`(head: String) {
        let ranges = RangeSet(4 << 20..<12 << 20)
        #expect(RuntimesProfile(text: head + "/file\t1-2\n").groups == [[.init(path: "/file", ranges: ranges)]])
    }

    private static func units(_ ranges: Range<Int>...) -> RangeSet<Int> {
        RangeSet(ranges.map { $0.lowerBound * RuntimesProfile.unitBytes..<$0.upperBound * RuntimesProfile.unitBytes })
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
