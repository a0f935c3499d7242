// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import Glibc
import SpriteDomain
import SpriteSystem

/// Packets that the rules log, copied to us by the kernel after they have gone their way: nothing waits for it.
///
/// What a packet holds is hostile. `@unchecked`: see `source`, the only field that the compiler does not know as safe.
final class PacketLog: @unchecked Sendable {
    let group: UInt16
    // Dispatch sources may be used from any thread; the library does not say so to the compiler.
    private let source: any DispatchSourceRead

    /// Takes the first free group after one derived from `tag`.
    init(tag: String, book: ContactBook) throws {
        var hash: UInt32 = 2_166_136_261
        for byte in tag.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        var result: Int32 = -EBUSY
        var group: UInt16 = 0
        for step in 0..<UInt32(64) {
            // Low numbers are what people write into their own rules.
            group = UInt16(1024 + (hash &+ step) % 64_000)
            result = clinux_open_packet_log(group, 1400)
            if result >= 0 { break }
        }
        let socket = Descriptor(owning: try checked(result, "open the packet log"))
        self.group = group
        let source = DispatchSource.makeReadSource(fileDescriptor: socket.number, queue: queue)
        source.setEventHandler {
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            while true {
                let count = recv(socket.number, &buffer, buffer.count, 0)
                // Lost messages (ENOBUFS) are contacts that are recorded another time.
                guard count > 0 else { return }
                for packet in LoggedPacket.all(buffer[..<count]) { packet.record(in: book) }
            }
        }
        source.setCancelHandler { withExtendedLifetime(socket) {} }
        source.activate()
        self.source = source
    }

    func close() { source.cancel() }
}

private let queue = DispatchQueue(label: "sprite.network.log")

/// One packet of the log.
private struct LoggedPacket {
    var prefix: String
    var bytes: ArraySlice<UInt8>

    /// Netlink messages: a header of 16 bytes, one of 4, attributes. The kernel wrote all but the payload.
    static func all(_ buffer: ArraySlice<UInt8>) -> [LoggedPacket] {
        var packets: [LoggedPacket] = []
        var place = buffer.startIndex
        while place + 20 <= buffer.endIndex {
            let length = Int(buffer.native32(place))
            guard length >= 20, place + length <= buffer.endIndex else { break }
            // NFNL_SUBSYS_ULOG (4), NFULNL_MSG_PACKET (0).
            if buffer[place + 5] == 4, buffer[place + 4] == 0 {
                var packet = LoggedPacket(prefix: "", bytes: [])
                var attribute = place + 20
                while attribute + 4 <= place + length {
                    let size = Int(buffer.native16(attribute)), type = buffer.native16(attribute + 2) & 0x3FFF
                    guard size >= 4, attribute + size <= place + length else { break }
                    let content = buffer[(attribute + 4)..<(attribute + size)]
                    if type == 9 { packet.bytes = content }  // NFULA_PAYLOAD
                    if type == 10 { packet.prefix = String(decoding: content.prefix { $0 != 0 }, as: UTF8.self) }
                    attribute += (size + 3) & ~3
                }
                packets.append(packet)
            }
            place += (length + 3) & ~3
        }
        return packets
    }

    /// Reads an IPv4 packet with TCP or UDP in it.
    func record(in book: ContactBook) {
        let bytes = Array(bytes)
        guard bytes.count >= 20, bytes[0] >> 4 == 4 else { return }
        let head = Int(bytes[0] & 15) * 4
        let hasPorts = (bytes[9] == 6 || bytes[9] == 17) && bytes.count >= head + 8
        let source = IPv4Address(rawValue: bytes[...].network32(12))
        let destination = IPv4Address(rawValue: bytes[...].network32(16))
        switch prefix {
        case "answer":
            guard hasPorts, let (name, addresses) = NameAnswer.observed(Array(bytes[(head + 8)...])) else { return }
            book.record(name: name, isAllowed: true, reason: nil, addresses: addresses, from: destination)
        case "contact", "refused":
            let port = hasPorts ? UInt16(bytes[...].network32(head) & 0xFFFF) : nil
            book.record(destination: destination, port: port, isAllowed: prefix == "contact", from: source)
        case "connections", "bandwidth":
            guard let limit = NetworkLimitHit(rawValue: prefix) else { return }
            // Which of the two is a sprite's the book knows: bandwidth is limited in both directions.
            book.record(limit, from: source, to: destination)
        default: break
        }
    }
}

extension ArraySlice<UInt8> {
    fileprivate func native16(_ place: Int) -> UInt16 {
        UInt16(littleEndian: UInt16(self[place]) | UInt16(self[place + 1]) << 8)
    }
    fileprivate func native32(_ place: Int) -> UInt32 {
        UInt32(native16(place)) | UInt32(native16(place + 2)) << 16
    }
    fileprivate func network32(_ place: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 << 8 | UInt32(self[place + $1]) }
    }
}
