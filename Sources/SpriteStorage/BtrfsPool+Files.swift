// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem

/// Small files beside the overlay's layers: part of the disk's state, out of reach from inside.
extension BtrfsPool {
    package func readDiskFile(_ sprite: SpriteID, _ name: String) async throws -> [UInt8]? {
        let path = "\(path)/sprites/\(sprite)/live/\(name)"
        return try await blocking {
            try poolOperation("read \(name)") {
                guard access(path, F_OK) == 0 else { return nil }
                return Array(try readSmallFile(path).utf8)
            }
        }
    }

    package func hasFile(_ sprite: SpriteID, base: BaseName, _ path: String) async throws -> Bool {
        try await blocking { [self] in
            let upper = try openDirectory("\(livePath(sprite))/upper")
            for root in [upper, try shiftedBase(base)] {
                let found = clinux_open_in_root(root.number, path, clinux_path_only() | O_NOFOLLOW, 0)
                guard found >= 0 else { continue }
                let file = Descriptor(owning: found)
                var facts = stat()
                try system("inspect \(path)") { fstat(file.number, &facts) }
                // In the upper folder this device stands for what was removed.
                return facts.st_mode & S_IFMT != S_IFCHR
            }
            return false
        }
    }

    package func writeDiskFile(_ sprite: SpriteID, _ name: String, _ bytes: [UInt8]) async throws {
        let folder = "\(path)/sprites/\(sprite)/live"
        try await blocking {
            try poolOperation("write \(name)") {
                let path = "\(folder)/\(name)"
                let text = String(decoding: bytes, as: UTF8.self)
                let temporary = "\(path).new"
                try writeSmallFile(temporary, text, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
                let file = try Descriptor.open(temporary, O_RDONLY)
                try system("write out \(temporary)") { fsync(file.number) }
                try system("rename \(temporary)") { rename(temporary, path) }
                // The name is what a power cut would take back.
                let names = try Descriptor.open(folder, O_RDONLY | O_DIRECTORY)
                try system("write out \(folder)") { fsync(names.number) }
            }
        }
    }
}
