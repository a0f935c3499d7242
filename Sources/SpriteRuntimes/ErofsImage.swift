// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Names and attributes of files as an EROFS file system, whose content lies on other devices.
///
/// Only what a layer needs of the format: inodes of 64 bytes, nothing compressed, a file's content in one piece, which is
/// a chunk of a size that holds it. Small folders and the targets of links lie behind their inodes, the rest in blocks after all inodes. Offsets and names of
/// fields are those of the kernel's `fs/erofs/erofs_fs.h`.
struct ErofsImage {
    final class Node {
        /// Type and permissions.
        var mode: mode_t
        var owner: (user: UInt32, group: UInt32)
        var time: (seconds: Int64, nanoseconds: UInt32)
        /// Of a file, in bytes.
        var size = 0
        /// Where the content of a file lies: the number of the device from 0 on, and its first block there.
        var content: (device: Int, block: Int) = (0, 0)
        var device: UInt32 = 0
        var target: [UInt8] = []
        var attributes: [(name: String, value: [UInt8])] = []
        /// In the order of their bytes.
        var children: [(name: [UInt8], node: Node)] = []

        fileprivate var links: UInt32 = 0
        fileprivate var place = -1
        fileprivate weak var parent: Node?
        /// Of `data` the part that lies behind the inode; the rest lies in blocks from `dataBlock` on.
        fileprivate var tailBytes = 0
        fileprivate var dataBytes = 0
        fileprivate var dataBlock = 0

        init(mode: mode_t, owner: (user: UInt32, group: UInt32), time: (seconds: Int64, nanoseconds: UInt32)) {
            (self.mode, self.owner, self.time) = (mode, owner, time)
        }

        fileprivate var kind: mode_t { mode & S_IFMT }
    }

    static let blockBytes = 4096
    /// The number of a block has 32 bits.
    static let deviceBytesMax = blockBytes << 31
    static let devicesMax = 512
    private static let inodeBytes = 64
    private static let superblockPlace = 1024
    private static let superblockBytes = 128
    private static let deviceSlotBytes = 128
    private static let chunkIndexBytes = 8

    private let root: Node
    /// In blocks.
    private let devices: [Int]
    /// Every node once, in the order of a walk.
    private var nodes: [Node] = []
    private var blocks = 0

    /// - Parameter devices: Bytes of each, whole blocks.
    /// - Throws: ``SystemError`` if a name or a size cannot be written down.
    init(root: Node, devices: [Int]) throws {
        guard devices.count <= Self.devicesMax, devices.allSatisfy({ $0 <= Self.deviceBytesMax }) else {
            throw SystemError(EFBIG, "lay out the content of a layer")
        }
        self.root = root
        self.devices = devices.map { $0 / Self.blockBytes }
        try walk()
        try place()
    }

    // MARK: Placing

    private mutating func walk() throws {
        root.parent = root
        var waiting = [root]
        while let node = waiting.popLast() {
            node.links += 1
            // Another name of a file that was seen.
            guard node.links == 1 else {
                guard node.kind != S_IFDIR else { throw SystemError(ELOOP, "lay out a folder with two names") }
                continue
            }
            nodes.append(node)
            for (name, child) in node.children.reversed() {
                guard (1...Int(NAME_MAX)).contains(name.count), !name.contains(0), !name.contains(0x2F),
                    name != [0x2E], name != [0x2E, 0x2E]
                else { throw SystemError(EINVAL, "lay out the name \(String(decoding: name, as: UTF8.self))") }
                if child.kind == S_IFDIR { child.parent = node }
                waiting.append(child)
            }
        }
        for node in nodes where node.kind == S_IFDIR {
            node.links = 2 + UInt32(node.children.count { $0.node.kind == S_IFDIR })
        }
    }

    private mutating func place() throws {
        let block = Self.blockBytes
        // The superblock lies in the first block, and the table of devices goes on from there.
        var end = rounded(Self.superblockPlace + Self.superblockBytes + devices.count * Self.deviceSlotBytes, block)
        for node in nodes {
            let attributes = attributeBytes(node)
            guard attributes <= 12 + 4 * (Int(UInt16.max) - 1), node.target.count < block else {
                throw SystemError(E2BIG, "lay out attributes or the target of a link")
            }
            node.dataBytes = node.kind == S_IFDIR ? folderBytes(node) : node.target.count
            let tail = node.dataBytes % block
            // What lies behind an inode must be in its block. Attributes need not, but are rare.
            if attributes == 0, Self.inodeBytes + tail <= block { node.tailBytes = tail }
            let wanted = Self.inodeBytes + node.tailBytes + (hasContent(node) ? Self.chunkIndexBytes : 0)
            if end / block != (end + wanted - 1) / block { end = rounded(end, block) }
            node.place = end
            end = rounded(end + wanted + rounded(attributes, Self.chunkIndexBytes), 32)
        }
        blocks = rounded(end, block) / block
        for node in nodes {
            node.dataBlock = blocks
            blocks += (node.dataBytes - node.tailBytes + block - 1) / block
        }
        guard blocks < Int(UInt32.max), root.place / 32 <= Int(UInt16.max) else {
            throw SystemError(EFBIG, "lay out names")
        }
    }

    private func hasContent(_ node: Node) -> Bool { node.kind == S_IFREG && node.size > 0 }

    private func rounded(_ number: Int, _ unit: Int) -> Int { (number + unit - 1) / unit * unit }

    // MARK: Writing

    /// The whole image.
    func bytes() -> [UInt8] {
        var result = [UInt8](repeating: 0, count: blocks * Self.blockBytes)
        func put(_ bytes: some Collection<UInt8>, _ place: Int) {
            result.replaceSubrange(place..<place + bytes.count, with: bytes)
        }
        put(superblock(), Self.superblockPlace)
        for (index, count) in devices.enumerated() {
            var field = Fields(Self.deviceSlotBytes)
            field.put(UInt32(count), 64)
            put(field.bytes, Self.superblockPlace + Self.superblockBytes + index * Self.deviceSlotBytes)
        }
        for node in nodes {
            put(inode(node), node.place)
            let attributes = attributes(node)
            put(attributes, node.place + Self.inodeBytes)
            if hasContent(node) {
                put(chunkIndex(node), node.place + Self.inodeBytes + rounded(attributes.count, Self.chunkIndexBytes))
            }
            let data = node.kind == S_IFDIR ? folder(node) : node.target
            put(data.dropLast(node.tailBytes), node.dataBlock * Self.blockBytes)
            put(data.suffix(node.tailBytes), node.place + Self.inodeBytes)
        }
        return result
    }

    private func superblock() -> [UInt8] {
        var field = Fields(Self.superblockBytes)
        field.put(0xE0F5_E1E2 as UInt32, 0)
        // Blocks of 2 to the power of 12 bytes.
        field.put(12 as UInt8, 12)
        field.put(UInt16(number(root)), 14)
        field.put(UInt64(nodes.count), 16)
        field.put(UInt32(blocks), 36)
        if !devices.isEmpty {
            // Files consist of chunks, and there is a table of devices, which follows the superblock.
            field.put(4 | 8 as UInt32, 80)
            field.put(UInt16(devices.count), 86)
            field.put(UInt16((Self.superblockPlace + Self.superblockBytes) / Self.deviceSlotBytes), 88)
        }
        return field.bytes
    }

    /// An inode's number is its place.
    private func number(_ node: Node) -> UInt64 { UInt64(node.place / 32) }

    private func inode(_ node: Node) -> [UInt8] {
        var field = Fields(Self.inodeBytes)
        // Of the long form; its data has a tail here, or is in chunks.
        let form: UInt16 = node.tailBytes > 0 ? 2 : hasContent(node) ? 4 : 0
        field.put(1 | form << 1, 0)
        let attributes = attributeBytes(node)
        field.put(attributes == 0 ? 0 : UInt16((attributes - 12) / 4 + 1), 2)
        field.put(UInt16(node.mode), 4)
        let (size, place) =
            switch node.kind {
            case S_IFREG: (node.size, hasContent(node) ? 0x20 | UInt32(chunkBits(node) - Self.blockBits) : 0)
            case S_IFDIR, S_IFLNK: (node.dataBytes, UInt32(node.dataBlock))
            default: (0, node.device)
            }
        field.put(UInt64(size), 8)
        field.put(place, 16)
        field.put(UInt32(truncatingIfNeeded: number(node)), 20)
        field.put(node.owner.user, 24)
        field.put(node.owner.group, 28)
        field.put(UInt64(bitPattern: node.time.seconds), 32)
        field.put(node.time.nanoseconds, 40)
        field.put(node.links, 44)
        return field.bytes
    }

    private static let blockBits = 12

    /// The chunk that holds the file has 2 to the power of this many bytes.
    private func chunkBits(_ node: Node) -> Int {
        max(Self.blockBits, Int.bitWidth - (node.size - 1).leadingZeroBitCount)
    }

    private func chunkIndex(_ node: Node) -> [UInt8] {
        var field = Fields(Self.chunkIndexBytes)
        field.put(UInt16(node.content.device + 1), 2)
        field.put(UInt32(node.content.block), 4)
        return field.bytes
    }

    // MARK: Folders

    /// Names with their nodes, `.` and `..` among them in the order of their bytes, as many as fit into a block each.
    private func entries(_ node: Node) -> [[(name: [UInt8], node: Node)]] {
        var all = node.children
        for (name, other) in [([0x2E] as [UInt8], node), ([0x2E, 0x2E], node.parent ?? node)] {
            let index = all.firstIndex { name.lexicographicallyPrecedes($0.name) } ?? all.count
            all.insert((name, other), at: index)
        }
        var result: [[(name: [UInt8], node: Node)]] = [[]]
        var used = 0
        for entry in all {
            let wanted = 12 + entry.name.count
            if used + wanted > Self.blockBytes {
                result.append([])
                used = 0
            }
            result[result.count - 1].append(entry)
            used += wanted
        }
        return result
    }

    private func folderBytes(_ node: Node) -> Int {
        let groups = entries(node)
        return (groups.count - 1) * Self.blockBytes + groups[groups.count - 1].reduce(0) { $0 + 12 + $1.name.count }
    }

    private func folder(_ node: Node) -> [UInt8] {
        var result: [UInt8] = []
        for (index, group) in entries(node).enumerated() {
            result += [UInt8](repeating: 0, count: index * Self.blockBytes - result.count)
            var nameStart = 12 * group.count
            for entry in group {
                var field = Fields(12)
                field.put(number(entry.node), 0)
                field.put(UInt16(nameStart), 8)
                field.put(entryKind(entry.node), 10)
                result += field.bytes
                nameStart += entry.name.count
            }
            for entry in group { result += entry.name }
        }
        return result
    }

    private func entryKind(_ node: Node) -> UInt8 {
        switch node.kind {
        case S_IFREG: 1
        case S_IFDIR: 2
        case S_IFCHR: 3
        case S_IFBLK: 4
        case S_IFIFO: 5
        case S_IFSOCK: 6
        case S_IFLNK: 7
        default: 0
        }
    }

    // MARK: Attributes

    /// Beginnings of names that are written as a number.
    private static let prefixes: [(text: String, number: UInt8)] = [("user.", 1), ("trusted.", 4), ("security.", 6)]

    private func attributeBytes(_ node: Node) -> Int { attributes(node).count }

    private func attributes(_ node: Node) -> [UInt8] {
        guard !node.attributes.isEmpty else { return [] }
        var result = [UInt8](repeating: 0, count: 12)
        for (name, value) in node.attributes {
            guard let prefix = Self.prefixes.first(where: { name.hasPrefix($0.text) }) else { continue }
            let rest = Array(name.utf8.dropFirst(prefix.text.utf8.count))
            guard rest.count <= 255, value.count <= Int(UInt16.max) else { continue }
            var field = Fields(4)
            field.put(UInt8(rest.count), 0)
            field.put(prefix.number, 1)
            field.put(UInt16(value.count), 2)
            result += field.bytes + rest + value
            result += [UInt8](repeating: 0, count: rounded(result.count, 4) - result.count)
        }
        return result.count > 12 ? result : []
    }

    /// Numbers at their places, little endian.
    private struct Fields {
        var bytes: [UInt8]

        init(_ count: Int) { bytes = [UInt8](repeating: 0, count: count) }

        mutating func put(_ number: some FixedWidthInteger, _ place: Int) {
            withUnsafeBytes(of: number.littleEndian) { bytes.replaceSubrange(place..<place + $0.count, with: $0) }
        }
    }
}
