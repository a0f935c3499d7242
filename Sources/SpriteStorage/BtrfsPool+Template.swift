// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

extension BtrfsPool {
    private var templatePath: String { "\(path)/template" }

    func openTemplate() throws -> Descriptor { try openDirectory(templatePath) }

    /// Makes the disk that new sprites begin with, so that its inode numbers begin above `inodes`.
    ///
    /// Every btrfs subvolume numbers its inodes from 257. An overlay whose layers lie on one filesystem shows the
    /// numbers of the layers, so that a file of the sprite and another of its base would look like one file with two
    /// links: `tar` then stores one of them with the content of the other. Numbers are handed out in order and are
    /// not lowered again, so using up the first ones keeps bases and sprites apart. 20 µs each, once per pool.
    func ensureTemplate(inodes: UInt64) throws {
        if let template = try openDirectoryIfExists(templatePath) {
            if try Btrfs.isReadOnly(template), try inode(of: "\(templatePath)/upper") > inodes { return }
        }
        let temporary = "template.new"
        try Btrfs.delete(in: root, temporary)
        try Btrfs.createSubvolume(in: root, temporary)
        let folder = "\(path)/\(temporary)"
        try useInodes(folder, upTo: inodes)
        try makeDirectory("\(folder)/upper", mode: 0o755, owner: shiftedRoot, group: shiftedRoot)
        try makeDirectory("\(folder)/work", mode: 0o700, owner: shiftedRoot, group: shiftedRoot)
        try makeDirectory("\(folder)/plain", mode: 0o710, group: shiftedRoot)
        for plain in PlainDirectory.all {
            let place = "\(folder)/plain/\(plain.name)"
            try makeDirectory(place, mode: 0o710, owner: shiftedRoot, group: shiftedRoot)
        }
        let subvolume = try openDirectory(folder)
        try system("set owner of \(folder)") { fchown(subvolume.number, 0, shiftedRoot) }
        try system("set mode of \(folder)") { fchmod(subvolume.number, 0o710) }
        try Btrfs.setReadOnly(subvolume)
        // Disks made from the old one are copies of their own and stay as they are.
        if access(templatePath, F_OK) == 0 {
            try checked(clinux_exchange(folder, templatePath), "replace \(templatePath)")
            try Btrfs.delete(in: root, temporary)
        } else {
            try renamePath(folder, templatePath)
        }
    }

    /// A number above that of every inode in a subvolume that is being filled.
    func nextInode(_ folder: String) throws -> UInt64 {
        let number = clinux_next_inode(folder)
        guard number >= 0 else { throw SystemError(Int32(truncatingIfNeeded: -number), "make a file in \(folder)") }
        return UInt64(number)
    }

    private func useInodes(_ folder: String, upTo last: UInt64) throws {
        while try nextInode(folder) < last {}
    }

    private func inode(of path: String) throws -> UInt64 {
        var facts = stat()
        try system("inspect \(path)") { lstat(path, &facts) }
        return UInt64(facts.st_ino)
    }
}
