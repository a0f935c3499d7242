// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A question to a name server as a sprite sent it: hostile input, decoded with every length checked (RFC 1035).
struct NameQuestion: Sendable, Hashable {
    var identifier: UInt16
    var wantsRecursion: Bool
    /// In lower case, without a dot at its end; empty for the root.
    var name: String
    /// The labels as they were written: an answer must repeat them.
    var encodedName: [UInt8]
    var type: UInt16
    /// What the asker can take in one datagram.
    var answerBytesMax: Int

    enum Fault: Error {
        /// Too broken for an answer.
        case noMessage
        /// Can be told so.
        case malformed(identifier: UInt16)
        case unsupported(identifier: UInt16)
    }

    init(_ bytes: [UInt8]) throws(Fault) {
        guard bytes.count >= 12, bytes[2] & 0x80 == 0 else { throw .noMessage }
        identifier = bytes.number(0)
        guard bytes[2] & 0x78 == 0 else { throw .unsupported(identifier: identifier) }
        wantsRecursion = bytes[2] & 1 == 1
        // One question, nothing but options behind it.
        guard bytes.number(4) == 1, bytes.number(6) == 0, bytes.number(8) == 0, bytes.number(10) <= 2 else {
            throw .malformed(identifier: identifier)
        }
        guard let (text, end) = readName(bytes, 12, mayPoint: false), end + 4 <= bytes.count else {
            throw .malformed(identifier: identifier)
        }
        name = text
        encodedName = Array(bytes[12..<end])
        type = bytes.number(end)
        guard bytes.number(end + 2) == 1 else { throw .unsupported(identifier: identifier) }
        answerBytesMax = 512
        // An option record: root name, type 41, the size in the place of the class (RFC 6891).
        let option = end + 4
        if bytes.number(10) > 0, option + 11 <= bytes.count, bytes[option] == 0, bytes.number(option + 1) == 41 {
            answerBytesMax = max(512, min(1232, Int(bytes.number(option + 3))))
        }
    }

    /// The daemon's own question for the addresses of a name; the name has labels as names of hosts have them.
    init(addressesOf name: String) {
        identifier = 0
        wantsRecursion = true
        self.name = name
        encodedName = name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
        type = 1
        answerBytesMax = 1232
    }

    /// One address, for a few seconds: what leads to it may change.
    func reply(leadingTo address: IPv4Address) -> [UInt8] {
        var bytes = reply(0)
        bytes[7] = 1
        // The name of the question, type and class, 5 seconds, 4 bytes.
        bytes += [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]
        return bytes + (0..<4).map { UInt8(truncatingIfNeeded: address.rawValue >> (24 - 8 * $0)) }
    }

    /// The question anew, as the guard asks it: nothing that the sprite wrote goes out but name and type.
    func message(identifier: UInt16) -> [UInt8] {
        [UInt8(identifier >> 8), UInt8(identifier & 0xFF), 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1] + encodedName
            + [UInt8(type >> 8), UInt8(type & 0xFF), 0, 1]
            // Options: 1232 bytes fit into every path's packets.
            + [0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0]
    }

    /// An answer without records.
    func reply(_ code: UInt8, isTruncated: Bool = false) -> [UInt8] {
        let head = emptyReply(identifier, code, isTruncated: isTruncated, wantsRecursion: wantsRecursion)
        return head[..<4] + [0, 1, 0, 0, 0, 0, 0, 0] + encodedName + [UInt8(type >> 8), UInt8(type & 0xFF), 0, 1]
    }
}

/// Answers by code: RFC 1035, 4.1.1.
enum NameReply {
    static let formatError: UInt8 = 1
    static let serverFailure: UInt8 = 2
    static let notImplemented: UInt8 = 4
    static let refused: UInt8 = 5
}

func emptyReply(
    _ identifier: UInt16, _ code: UInt8, isTruncated: Bool = false, wantsRecursion: Bool = true
) -> [UInt8] {
    [
        UInt8(identifier >> 8), UInt8(identifier & 0xFF), 0x80 | (isTruncated ? 2 : 0) | (wantsRecursion ? 1 : 0),
        0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
}

/// What a name server answered: hostile as well, whoever runs the zone wrote it.
struct NameAnswer: Sendable {
    /// Names that the asked one leads to by CNAME, in order.
    private(set) var aliases: [String] = []
    private(set) var addresses: [IPv4Address] = []
    /// Of the addresses and of the aliases on the way to them, the shortest.
    private(set) var secondsToLive: UInt32 = .max
    private(set) var isTruncated: Bool
    /// Header, question and answers, lifetimes capped; sections that are not needed are left off.
    private(set) var bytes: [UInt8]

    /// Nil if it does not answer the question, or is not well formed.
    init?(_ message: [UInt8], to question: NameQuestion, identifier: UInt16, secondsToLiveMax: UInt32) {
        guard message.count >= 12, message.number(0) == identifier, message[2] & 0xF8 == 0x80, message.number(4) == 1,
            let (name, end) = readName(message, 12, mayPoint: false), end + 4 <= message.count,
            name == question.name, message.number(end) == question.type, message.number(end + 2) == 1
        else { return nil }
        isTruncated = message[2] & 2 != 0
        bytes = message
        var place = end + 4
        var expected = name
        let count = Int(message.number(6))
        guard count <= 256 else { return nil }
        for _ in 0..<count {
            guard let (owner, next) = readName(message, place, mayPoint: true), next + 10 <= message.count else {
                // A cut answer may end anywhere; it is not used.
                if isTruncated { break }
                return nil
            }
            let (type, length) = (message.number(next), Int(message.number(next + 8)))
            let data = next + 10
            guard data + length <= message.count else { return nil }
            let seconds = UInt32(message.number(next + 4)) << 16 | UInt32(message.number(next + 6))
            let kept = min(seconds, secondsToLiveMax)
            for index in 0..<4 { bytes[next + 4 + index] = UInt8(truncatingIfNeeded: kept >> (24 - 8 * index)) }
            if owner == expected, message.number(next + 2) == 1 {
                if type == 5 {
                    guard let (target, _) = readName(message, data, mayPoint: true) else { return nil }
                    expected = target
                    aliases.append(target)
                    secondsToLive = min(secondsToLive, kept)
                } else if type == 1, length == 4 {
                    let high = UInt32(message.number(data)), low = UInt32(message.number(data + 2))
                    addresses.append(IPv4Address(rawValue: high << 16 | low))
                    secondsToLive = min(secondsToLive, kept)
                }
            } else if type == 1 || type == 5 {
                // Of another name, or out of order: an address that the sprite would use and nobody has looked at.
                return nil
            }
            place = data + length
        }
        bytes = Array(bytes[..<place])
        for index in 8..<12 { bytes[index] = 0 }
        bytes[2] = bytes[2] & 0xFD | (isTruncated ? 2 : 0)
    }

    /// For the sprite: with its own number, and cut if it does not fit.
    func reply(to question: NameQuestion, bytesMax: Int) -> [UInt8] {
        guard bytes.count <= bytesMax, !isTruncated else { return question.reply(0, isTruncated: true) }
        var reply = bytes
        reply[0] = UInt8(question.identifier >> 8)
        reply[1] = UInt8(question.identifier & 0xFF)
        return reply
    }
}

/// A name at a place, and where it ends; follows pointers backwards only, so that it ends.
private func readName(_ bytes: [UInt8], _ start: Int, mayPoint: Bool) -> (name: String, end: Int)? {
    var text: [UInt8] = []
    var place = start
    var end: Int?
    var encodedCount = 1
    while place < bytes.count {
        let length = Int(bytes[place])
        if length == 0 { return (String(decoding: text, as: UTF8.self), end ?? place + 1) }
        if length & 0xC0 == 0xC0 {
            guard mayPoint, place + 1 < bytes.count else { return nil }
            let target = (length & 0x3F) << 8 | Int(bytes[place + 1])
            guard target < place else { return nil }
            end = end ?? place + 2
            place = target
            continue
        }
        encodedCount += length + 1
        guard length < 64, place + 1 + length <= bytes.count, encodedCount <= 255 else { return nil }
        if !text.isEmpty { text.append(0x2E) }
        for byte in bytes[(place + 1)...(place + length)] {
            // Dots and control characters within a label would make one name look like another.
            guard byte > 0x20, byte < 0x7F, byte != 0x2E else { return nil }
            text.append((0x41...0x5A).contains(byte) ? byte | 0x20 : byte)
        }
        place += length + 1
    }
    return nil
}

extension [UInt8] {
    /// Two bytes in network order; the caller has checked that they are there.
    fileprivate func number(_ place: Int) -> UInt16 { UInt16(self[place]) << 8 | UInt16(self[place + 1]) }
}

extension NameAnswer {
    /// Name and addresses of an answer that passed by; nil if it holds none.
    static func observed(_ message: [UInt8]) -> (name: String, addresses: [IPv4Address])? {
        guard message.count >= 12, message[2] & 0x80 != 0, message[3] & 0x0F == 0, message.number(4) == 1 else {
            return nil
        }
        // The question as it was asked: the answer's own head with nothing but that in it.
        var asked = message
        asked[2] = 1
        for index in 6..<12 { asked[index] = 0 }
        guard let question = try? NameQuestion(asked),
            let answer = NameAnswer(message, to: question, identifier: question.identifier, secondsToLiveMax: .max),
            !answer.addresses.isEmpty
        else { return nil }
        return (question.name, answer.addresses)
    }
}
