// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// JSON as the sprite's API answers it.
indirect enum JSONValue {
    case null
    case bool(Bool)
    /// As it was written.
    case number(String)
    case string(String)
    case list([JSONValue])
    case object([(name: String, value: JSONValue)])

    subscript(_ name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    var text: String? { if case .string(let text) = self { text } else { nil } }
    var items: [JSONValue] { if case .list(let items) = self { items } else { [] } }
    var number: Int? { if case .number(let text) = self { Int(text) } else { nil } }

    /// For a cell of a table: texts as they are, lists with commas, nothing for null.
    var shown: String {
        switch self {
        case .null: ""
        case .bool(let flag): flag ? "true" : "false"
        case .number(let text), .string(let text): text
        case .list(let items): items.map(\.shown).joined(separator: ",")
        case .object(let members): members.map { "\($0.name)=\($0.value.shown)" }.joined(separator: ",")
        }
    }

    static func parse(_ bytes: [UInt8]) throws -> JSONValue {
        var parser = Parser(bytes: bytes)
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.index == bytes.count else { throw parser.failure }
        return value
    }

    private struct Parser {
        let bytes: [UInt8]
        var index = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        var failure: ClientFailure {
            ClientFailure("the sprite's API answered with what is not JSON, at byte \(index)")
        }

        mutating func skipSpace() {
            while index < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[index]) { index += 1 }
        }

        mutating func take(_ byte: UInt8) -> Bool {
            skipSpace()
            guard index < bytes.count, bytes[index] == byte else { return false }
            index += 1
            return true
        }

        mutating func value(depth: Int) throws -> JSONValue {
            skipSpace()
            guard index < bytes.count, depth < 64 else { throw failure }
            switch bytes[index] {
            case UInt8(ascii: "{"):
                index += 1
                var members: [(name: String, value: JSONValue)] = []
                if take(UInt8(ascii: "}")) { return .object(members) }
                repeat {
                    skipSpace()
                    let name = try string()
                    guard take(UInt8(ascii: ":")) else { throw failure }
                    members.append((name, try value(depth: depth + 1)))
                } while take(UInt8(ascii: ","))
                guard take(UInt8(ascii: "}")) else { throw failure }
                return .object(members)
            case UInt8(ascii: "["):
                index += 1
                var items: [JSONValue] = []
                if take(UInt8(ascii: "]")) { return .list(items) }
                repeat { items.append(try value(depth: depth + 1)) } while take(UInt8(ascii: ","))
                guard take(UInt8(ascii: "]")) else { throw failure }
                return .list(items)
            case UInt8(ascii: "\""): return .string(try string())
            case UInt8(ascii: "t"): return try word("true", .bool(true))
            case UInt8(ascii: "f"): return try word("false", .bool(false))
            case UInt8(ascii: "n"): return try word("null", .null)
            default:
                let digits = bytes[index...].prefix {
                    (0x30...0x39).contains($0) || [0x2B, 0x2D, 0x2E, 0x45, 0x65].contains($0)
                }
                guard !digits.isEmpty else { throw failure }
                index += digits.count
                return .number(String(decoding: digits, as: UTF8.self))
            }
        }

        mutating func word(_ text: String, _ value: JSONValue) throws -> JSONValue {
            guard bytes[index...].starts(with: text.utf8) else { throw failure }
            index += text.utf8.count
            return value
        }

        mutating func string() throws -> String {
            guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { throw failure }
            index += 1
            var text: [UInt8] = []
            while index < bytes.count, bytes[index] != UInt8(ascii: "\"") {
                guard bytes[index] == UInt8(ascii: "\\") else {
                    text.append(bytes[index])
                    index += 1
                    continue
                }
                index += 1
                guard index < bytes.count else { throw failure }
                let escape = bytes[index]
                index += 1
                switch escape {
                case UInt8(ascii: "n"): text.append(0x0A)
                case UInt8(ascii: "t"): text.append(0x09)
                case UInt8(ascii: "r"): text.append(0x0D)
                case UInt8(ascii: "b"): text.append(0x08)
                case UInt8(ascii: "f"): text.append(0x0C)
                case UInt8(ascii: "u"): text += try String(unicodeEscape()).utf8
                default: text.append(escape)
                }
            }
            guard index < bytes.count else { throw failure }
            index += 1
            return String(decoding: text, as: UTF8.self)
        }

        /// After `\u`; a pair of surrogates is one character.
        private mutating func unicodeEscape() throws -> Character {
            let first = try fourDigits()
            if (0xD800..<0xDC00).contains(first), bytes[index...].starts(with: [0x5C, 0x75]) {
                index += 2
                let second = try fourDigits()
                if (0xDC00..<0xE000).contains(second),
                    let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
                {
                    return Character(scalar)
                }
            }
            return Character(Unicode.Scalar(first) ?? "\u{FFFD}")
        }

        private mutating func fourDigits() throws -> UInt32 {
            guard index + 4 <= bytes.count,
                let number = UInt32(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
            else { throw failure }
            index += 4
            return number
        }
    }
}
