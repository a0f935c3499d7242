// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// The stream of btrfs-send(8), version 1, all numbers little-endian:
//
//   | bytes | what                                                       |
//   |-------|------------------------------------------------------------|
//   | 13    | "btrfs-stream" and a zero byte                             |
//   | 4     | version                                                    |
//   | then commands:                                                     |
//   | 4     | length of what follows the ten bytes of this head          |
//   | 2     | kind                                                       |
//   | 4     | CRC-32C, not looked at: it came through a pipe             |
//   | then attributes, each: kind (2), length (2), value                 |

/// One step from the older state to the newer one, as far as names are concerned.
enum SendCommand: Sendable, Hashable {
    /// A file, directory, link, device, pipe or socket that is new.
    case create([UInt8])
    case rename(from: [UInt8], to: [UInt8])
    /// Another name of a file.
    case link(new: [UInt8], old: [UInt8])
    /// The name goes, of a file or an empty directory.
    case remove([UInt8])
    /// Owner, mode or extended attributes.
    case attributes([UInt8])
    /// Content in a range of the file; nil for all of it.
    case content([UInt8], Range<UInt64>?)
    case end
}

/// Reads commands from bytes as they come. Anything that is not as documented is an error: names come from inside.
struct SendStream {
    struct Malformed: Error, CustomStringConvertible {
        var description: String
    }

    /// Without contents the longest command names two paths and an extended attribute of 64 KiB.
    private static let commandBytesMax = 256 << 10
    private static let pathBytesMax = 4096
    private static let magic = Array("btrfs-stream".utf8) + [0]

    private var bytes: [UInt8] = []
    private var position = 0
    private var hasHead = false

    mutating func append(_ more: UnsafeBufferPointer<UInt8>) {
        if position > 0 {
            bytes.removeFirst(position)
            position = 0
        }
        bytes.append(contentsOf: more)
    }

    /// Whether bytes are left that do not make a whole command.
    var hasRest: Bool { position < bytes.count }

    /// The next command that matters; nil if more bytes are needed first.
    mutating func next() throws -> SendCommand? {
        if !hasHead {
            guard bytes.count >= 17 else { return nil }
            guard Array(bytes[0..<13]) == Self.magic else { throw Malformed(description: "it has another beginning") }
            let version = number(13, 4)
            guard version == 1 else { throw Malformed(description: "it is of version \(version)") }
            position = 17
            hasHead = true
        }
        while bytes.count - position >= 10 {
            let length = Int(number(position, 4))
            guard length <= Self.commandBytesMax else {
                throw Malformed(description: "a command has \(length) bytes")
            }
            guard bytes.count - position >= 10 + length else { return nil }
            let kind = Int(number(position + 4, 2))
            let body = position + 10..<position + 10 + length
            position = body.upperBound
            if let command = try command(kind, body) { return command }
        }
        return nil
    }

    private func number(_ offset: Int, _ count: Int) -> UInt64 {
        bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func command(_ kind: Int, _ body: Range<Int>) throws -> SendCommand? {
        switch kind {
        case 3, 4, 5, 6, 7, 8:
            return .create(try path(15, body))
        case 9:
            return .rename(from: try path(15, body), to: try path(16, body))
        case 10:
            return .link(new: try path(15, body), old: try path(17, body))
        case 11, 12:
            return .remove(try path(15, body))
        case 13, 14, 18, 19:
            return .attributes(try path(15, body))
        case 15, 16, 17:
            return .content(try path(15, body), nil)
        case 22:
            let offset = try integer(18, body)
            let size = try integer(4, body)
            let (end, overflows) = offset.addingReportingOverflow(size)
            guard !overflows else { throw Malformed(description: "a range of a file has no end") }
            return .content(try path(15, body), offset..<end)
        case 21:
            return .end
        case 1, 2, 20:
            // The subvolume itself, and times: no difference that is told.
            return nil
        default:
            throw Malformed(description: "command \(kind) is not known")
        }
    }

    private func attribute(_ wanted: Int, _ body: Range<Int>) throws -> Range<Int> {
        var offset = body.lowerBound
        while body.upperBound - offset >= 4 {
            let kind = Int(number(offset, 2))
            let length = Int(number(offset + 2, 2))
            let value = offset + 4..<offset + 4 + length
            guard value.upperBound <= body.upperBound else { break }
            if kind == wanted { return value }
            offset = value.upperBound
        }
        throw Malformed(description: "a command lacks attribute \(wanted)")
    }

    private func path(_ attributeKind: Int, _ body: Range<Int>) throws -> [UInt8] {
        let value = Array(bytes[try attribute(attributeKind, body)])
        guard value.count <= Self.pathBytesMax, !value.contains(0) else {
            throw Malformed(description: "a path has \(value.count) bytes or a zero byte")
        }
        return value
    }

    private func integer(_ attributeKind: Int, _ body: Range<Int>) throws -> UInt64 {
        let value = try attribute(attributeKind, body)
        guard value.count == 8 else { throw Malformed(description: "a number has \(value.count) bytes") }
        return number(value.lowerBound, 8)
    }
}
