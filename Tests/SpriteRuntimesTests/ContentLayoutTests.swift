// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem
import Testing

@testable import SpriteRuntimes

@Suite struct ContentLayoutTests {
    /// Two parts; the first file of the first ends before its block does.
    private let layout = ContentLayout([
        .init(inode: 7, part: 0, start: 0, size: 10), .init(inode: 9, part: 0, start: 4096, size: 8192),
        .init(inode: 8, part: 1, start: 0, size: 4096),
    ])

    @Test(
        arguments: [
            (2, 0, 7), (2, 9, 7), (2, 4096, 9), (2, 12287, 9), (3, 0, 8), (3, 4095, 8),
        ] as [(Int64, Int64, Int64)])
    func `a byte of a part belongs to a file`(part: Int64, place: Int64, inode: Int64) {
        #expect(layout.file(in: part, at: place)?.inode == inode)
    }

    @Test(
        arguments: [
            (2, 10), (2, 4095), (2, 12288), (3, 4096), (4, 0), (1, 0), (2, -1), (Int64.min, 0), (Int64.max, Int64.max),
        ] as [(Int64, Int64)])
    func `a byte between files, and one of no part, belongs to none`(part: Int64, place: Int64) {
        #expect(layout.file(in: part, at: place) == nil)
    }

    @Test func `it is read as it was written`() throws {
        let path = "/tmp/layout-\(UInt32.random(in: .min ... .max))"
        defer { unlink(path) }
        #expect(try ContentLayout(file: path) == nil)
        try layout.write(path)
        let read = try #require(try ContentLayout(file: path))
        #expect(read.parts == 2 && read.entries.count == 3)
        #expect(read[9]?.start == 4096 && read[9]?.size == 8192 && read[8]?.part == 1 && read[1] == nil)
        try writeSmallFile(path, "half an entry", flags: O_WRONLY | O_TRUNC)
        #expect(throws: SystemError.self) { try ContentLayout(file: path) }
    }
}

@Suite struct ErofsImageTests {
    private func folder() -> ErofsImage.Node { .init(mode: S_IFDIR | 0o755, owner: (0, 0), time: (0, 0)) }

    @Test(arguments: ["", ".", "..", "a/b", "a\0b", String(repeating: "x", count: 256)])
    func `a name that no file can have is refused`(_ name: String) {
        let root = folder()
        root.children = [(Array(name.utf8), folder())]
        #expect(throws: SystemError.self) { try ErofsImage(root: root, devices: []) }
    }

    @Test func `a folder that lies in itself is refused`() {
        let (root, below) = (folder(), folder())
        root.children = [(Array("below".utf8), below)]
        below.children = [(Array("again".utf8), below)]
        #expect(throws: SystemError.self) { try ErofsImage(root: root, devices: []) }
        below.children = []
    }

    @Test(arguments: [(4095, 512, true), (4096, 1, false), (1, 513, false)])
    func `targets have less than a block, and devices are few`(target: Int, devices: Int, fits: Bool) throws {
        let (root, link) = (folder(), ErofsImage.Node(mode: S_IFLNK | 0o777, owner: (0, 0), time: (0, 0)))
        root.children = [(Array("link".utf8), link)]
        link.target = Array(repeating: 0x78, count: target)
        let sizes = Array(repeating: ErofsImage.blockBytes, count: devices)
        if fits {
            let image = try ErofsImage(root: root, devices: sizes).bytes()
            #expect(image.count.isMultiple(of: ErofsImage.blockBytes))
        } else {
            #expect(throws: SystemError.self) { try ErofsImage(root: root, devices: sizes) }
        }
    }
}
