// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// The 512-byte header of an entry in a tar archive (POSIX.1-2001, ustar):
///
/// | offset | bytes | field                                              |
/// |--------|-------|----------------------------------------------------|
/// | 0      | 100   | name                                               |
/// | 100    | 8     | mode, octal                                        |
/// | 108    | 8, 8  | owner, group                                       |
/// | 124    | 12    | size; with the first bit set a binary number (GNU) |
/// | 136    | 12    | time of change                                     |
/// | 148    | 8     | checksum: the sum of all bytes, these as spaces    |
/// | 156    | 1     | type                                               |
/// | 157    | 100   | name of the link's target                          |
/// | 257    | 8     | `ustar`, zero, `00`                                |
/// | 345    | 155   | what comes before the name and a slash             |
///
/// What does not fit is in a pax entry (type `x`) before it: lines of `LENGTH KEY=VALUE`.
struct TarHeader {
    static let blockBytes = 512

    var name: [UInt8] = []
    var mode: mode_t = 0
    var owner: UInt32 = 0
    var group: UInt32 = 0
    var size: Int64 = 0
    var time: Int64 = 0
    var type: UInt8 = 0
    var link: [UInt8] = []

    init() {}

    // MARK: Writing

    /// The blocks of this header, with a pax entry before it if it needs one.
    var blocks: [UInt8] {
        var records: [UInt8] = []
        if name.count > 100 { TarHeader.record("path", name, &records) }
        if link.count > 100 { TarHeader.record("linkpath", link, &records) }
        if size >= 1 << 33 { TarHeader.record("size", Array("\(size)".utf8), &records) }
        guard !records.isEmpty else { return block }
        var extra = TarHeader()
        extra.name = Array("pax".utf8)
        extra.mode = 0o644
        extra.type = UInt8(ascii: "x")
        extra.size = Int64(records.count)
        return extra.block + records + TarHeader.padding(Int64(records.count)) + block
    }

    static func padding(_ size: Int64) -> [UInt8] {
        [UInt8](repeating: 0, count: Int((512 - size % 512) % 512))
    }

    /// The length counts its own digits.
    private static func record(_ key: String, _ value: [UInt8], _ records: inout [UInt8]) {
        let rest = key.utf8.count + value.count + 3
        var length = rest
        while rest + "\(length)".utf8.count != length { length = rest + "\(length)".utf8.count }
        records += "\(length) \(key)=".utf8
        records += value
        records.append(0x0A)
    }

    private var block: [UInt8] {
        var block = [UInt8](repeating: 0, count: TarHeader.blockBytes)
        func put(_ bytes: some Sequence<UInt8>, _ offset: Int, _ count: Int) {
            for (index, byte) in bytes.prefix(count).enumerated() { block[offset + index] = byte }
        }
        func put(_ number: Int64, _ offset: Int, _ digits: Int) {
            let largest = Int64(1) << Int64(3 * digits)
            let text = String(min(max(number, 0), largest - 1), radix: 8)
            put(String(repeating: "0", count: digits - text.count).utf8 + Array(text.utf8), offset, digits)
        }
        put(name, 0, 100)
        put(Int64(mode), 100, 7)
        put(Int64(owner), 108, 7)
        put(Int64(group), 116, 7)
        put(size, 124, 11)
        put(time, 136, 11)
        put([UInt8](repeating: 0x20, count: 8), 148, 8)
        block[156] = type
        put(link, 157, 100)
        put("ustar\u{0}00".utf8, 257, 8)
        put(Int64(block.reduce(0) { $0 + Int($1) }), 148, 6)
        block[154] = 0
        return block
    }

    // MARK: Reading

    /// Nil if the block is no header.
    init?(_ block: [UInt8]) {
        guard block.count == TarHeader.blockBytes else { return nil }
        var sum: Int64 = 0
        for (index, byte) in block.enumerated() { sum += (148..<156).contains(index) ? 0x20 : Int64(byte) }
        guard TarHeader.number(block[148..<156]) == sum, let size = TarHeader.number(block[124..<136]) else {
            return nil
        }
        self.size = size
        mode = mode_t(truncatingIfNeeded: TarHeader.number(block[100..<108]) ?? 0) & 0o7777
        owner = UInt32(truncatingIfNeeded: TarHeader.number(block[108..<116]) ?? 0)
        group = UInt32(truncatingIfNeeded: TarHeader.number(block[116..<124]) ?? 0)
        time = TarHeader.number(block[136..<148]) ?? 0
        type = block[156]
        link = TarHeader.text(block[157..<257])
        name = TarHeader.text(block[0..<100])
        // GNU's own format has other things where ustar has the front of the name.
        if Array(block[257..<263]) == Array("ustar\u{0}".utf8) {
            let front = TarHeader.text(block[345..<500])
            if !front.isEmpty { name = front + [UInt8(ascii: "/")] + name }
        }
    }

    static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }

    private static func number(_ field: ArraySlice<UInt8>) -> Int64? {
        guard let first = field.first else { return nil }
        if first & 0x80 != 0 {
            var number: Int64 = 0
            for (index, byte) in field.enumerated() {
                let bits = index == 0 ? byte & 0x7F : byte
                guard number < 1 << 55 else { return nil }
                number = number << 8 | Int64(bits)
            }
            return number
        }
        var number: Int64 = 0
        for byte in field.drop(while: { $0 == 0x20 || $0 == 0 }) {
            guard (0x30...0x37).contains(byte) else { break }
            guard number < 1 << 59 else { return nil }
            number = number << 3 | Int64(byte - 0x30)
        }
        return number
    }
}
