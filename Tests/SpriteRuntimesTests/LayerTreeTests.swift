// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import SpriteSystem
import Testing

@testable import SpriteRuntimes

@Suite struct LayerTreeTests {
    /// Times in seconds and nanoseconds; the base was made at second 1000, the build began at 1000 or later.
    @Test(arguments: [
        // A folder whose time is of the base, or became that of the build by two copies into the disk that met.
        ("folder", 990, 1020), ("folder", 1000, 1000), ("folder", 1000, 1020),
        // A file that the import of the base touched in its last second, and one that each build writes.
        ("folder/file", 1000, 1000), ("folder/file", 1020, 1040),
        ("", 980, 1020),
    ])
    func `two builds of the same give the same dump`(path: String, first: Int, second: Int) throws {
        let place = "/tmp/layer-tree-\(UInt32.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: "\(place)/folder", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try Data().write(to: URL(filePath: "\(place)/folder/file"))
        setTime("\(place)/folder/file", 900, 5)
        setTime("\(place)/folder", 900, 5)
        setTime(place, 900, 5)
        var dumps: [Data] = []
        for (time, begun) in [(first, Int64(1000)), (second, Int64(1010))] {
            setTime("\(place)/\(path)", time, dumps.count + 1)
            let tree = try LayerTree(place, begun: begun, baseMade: 1000, epoch: 700)
            let dump = "\(place).json"
            try MetadataWriter(tree: tree, slices: [], name: "small").writeDump(dump)
            dumps.append(try Data(contentsOf: URL(filePath: dump)))
            unlink(dump)
        }
        #expect(dumps[0] == dumps[1])
    }

    @Test func `a file keeps the time that its package gave it`() throws {
        let place = "/tmp/layer-tree-\(UInt32.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        // Older than the base, and newer than it: what was compiled from a source names the source's time.
        for (name, time) in [("old", 900), ("new", 1005)] {
            try Data().write(to: URL(filePath: "\(place)/\(name)"))
            setTime("\(place)/\(name)", time, 0)
        }
        let tree = try LayerTree(place, begun: 1010, baseMade: 1000, epoch: 700)
        #expect(tree.root.children.map { Int($0.facts.st_mtim.tv_sec) } == [1005, 900])
    }

    private func setTime(_ path: String, _ seconds: Int, _ nanoseconds: Int) {
        let time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
        #expect(utimensat(AT_FDCWD, path, [time, time], 0) == 0)
    }
}
