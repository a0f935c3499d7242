// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import SpriteSystem

func readFile(_ path: String) throws -> String { try readSmallFile(path, bytesMax: 16 << 20) }

func writeFile(_ path: String, _ text: String) throws {
    try writeSmallFile(path, text, flags: O_WRONLY | O_CREAT | O_TRUNC)
}

/// Names in a directory, without `.` and `..`; empty if it cannot be read.
func directoryNames(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// KiB in blocks of every file below a directory of a tmpfs: memory that is held for what they describe.
func kibibytesBelow(_ path: String) -> Int {
    var total = 0
    for name in directoryNames(path) {
        var status = stat()
        let child = "\(path)/\(name)"
        guard lstat(child, &status) == 0 else { continue }
        total += Int(status.st_blocks) / 2
        if status.st_mode & S_IFMT == S_IFDIR, !isMountPoint(child, parentDevice: status.st_dev, parent: path) {
            total += kibibytesBelow(child)
        }
    }
    return total
}

private func isMountPoint(_ path: String, parentDevice: dev_t, parent: String) -> Bool {
    var status = stat()
    return lstat(parent, &status) == 0 && status.st_dev != parentDevice
}

/// Something the benchmark needs is not as it expects.
struct BenchFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
