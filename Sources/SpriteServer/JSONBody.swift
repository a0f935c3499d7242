// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import SpriteDomain

/// Reads and writes JSON, with errors that say where.
enum JSONBody {
    static func encode(_ value: some Encodable) throws -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return ByteBuffer(bytes: try encoder.encode(value))
    }

    static func decode<Value: Decodable>(_ type: Value.Type, from buffer: ByteBuffer) throws -> Value {
        let bytes = Array(buffer.readableBytesView)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw SpriteError(.invalidRequest, "cannot read the request body: \(explain(error, bytes))")
        }
    }

    private static func explain(_ error: any Error, _ bytes: [UInt8]) -> String {
        if let problem = JSONSyntax.firstProblem(bytes) {
            return "it is not JSON: \(problem.reason) at byte \(problem.offset)"
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return "'\(path(context.codingPath + [key]))' is missing"
        case DecodingError.typeMismatch(let type, let context), DecodingError.valueNotFound(let type, let context):
            let place = context.codingPath.isEmpty ? "it" : "'\(path(context.codingPath))'"
            return "\(place) must be \(name(type))"
        case DecodingError.dataCorrupted(let context):
            let place = context.codingPath.isEmpty ? "it" : "'\(path(context.codingPath))'"
            return "\(place) has a value that cannot be used"
        default:
            return "it cannot be understood"
        }
    }

    private static func path(_ keys: [any CodingKey]) -> String {
        String(keys.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".").prefix(100))
    }

    private static func name(_ type: any Any.Type) -> String {
        switch type {
        case is String.Type: "a string"
        case is Bool.Type: "true or false"
        case is Int.Type: "a whole number"
        case is Double.Type: "a number"
        case is [Any].Type: "a list"
        default: "an object"
        }
    }
}

/// Finds the first place where bytes are not JSON (RFC 8259); the library's errors do not tell it on every system.
enum JSONSyntax {
    struct Problem: Equatable {
        var offset: Int
        var reason: String
    }

    static func firstProblem(_ bytes: [UInt8]) -> Problem? {
        var scanner = Scanner(bytes: bytes)
        do {
            try scanner.value(depth: 0)
            scanner.skipSpace()
            if scanner.index < bytes.count { try scanner.fail("there is more after the value") }
            return nil
        } catch {
            return error
        }
    }

    private static let depthMax = 128

    private struct Scanner {
        let bytes: [UInt8]
        var index = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        func fail(_ reason: String) throws(Stop) -> Never { throw Problem(offset: index, reason: reason) }
        typealias Stop = Problem

        mutating func skipSpace() {
            while index < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[index]) { index += 1 }
        }

        mutating func value(depth: Int) throws(Stop) {
            skipSpace()
            guard depth < JSONSyntax.depthMax else { try fail("it is nested too deeply") }
            guard index < bytes.count else { try fail("it ends too early") }
            switch bytes[index] {
            case 0x7B: try members(depth: depth, close: 0x7D, named: true)
            case 0x5B: try members(depth: depth, close: 0x5D, named: false)
            case 0x22: try string()
            case 0x74: try word("true")
            case 0x66: try word("false")
            case 0x6E: try word("null")
            case 0x2D, 0x30...0x39: number()
            default: try fail("a value is expected")
            }
        }

        mutating func members(depth: Int, close: UInt8, named: Bool) throws(Stop) {
            index += 1
            skipSpace()
            if index < bytes.count, bytes[index] == close {
                index += 1
                return
            }
            while true {
                if named {
                    skipSpace()
                    guard index < bytes.count else { try fail("it ends too early") }
                    guard bytes[index] == 0x22 else { try fail("a name in quotes is expected") }
                    try string()
                    skipSpace()
                    guard index < bytes.count else { try fail("it ends too early") }
                    guard bytes[index] == 0x3A else { try fail("a colon is expected") }
                    index += 1
                }
                try value(depth: depth + 1)
                skipSpace()
                guard index < bytes.count else { try fail("it ends too early") }
                let byte = bytes[index]
                guard byte == 0x2C || byte == close else { try fail("a comma or the closing bracket is expected") }
                index += 1
                if byte == close { return }
            }
        }

        mutating func string() throws(Stop) {
            index += 1
            while index < bytes.count {
                switch bytes[index] {
                case 0x22:
                    index += 1
                    return
                case 0x5C: index += 2
                case 0..<0x20: try fail("a control character in a string")
                default: index += 1
                }
            }
            index = bytes.count
            try fail("a string does not end")
        }

        mutating func word(_ text: String) throws(Stop) {
            for byte in text.utf8 {
                guard index < bytes.count, bytes[index] == byte else { try fail("'\(text)' is expected") }
                index += 1
            }
        }

        mutating func number() {
            while index < bytes.count, [0x2B, 0x2D, 0x2E, 0x45, 0x65].contains(bytes[index]) || isDigit(bytes[index]) {
                index += 1
            }
        }

        func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
    }
}

extension JSONSyntax.Problem: Error {}
