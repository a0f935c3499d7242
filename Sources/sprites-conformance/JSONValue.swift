// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Sprites

/// A reply.
enum JSONValue: Encodable, ExpressibleByDictionaryLiteral, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    case text(String)
    case int(Int)
    case number(Double)
    case bool(Bool)
    case list([JSONValue])
    case object([String: JSONValue])
    case null

    init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements) { first, _ in first })
    }
    init(stringLiteral value: String) { self = .text(value) }
    init(integerLiteral value: Int) { self = .int(value) }

    /// Bytes are base64.
    static func bytes(_ bytes: [UInt8]) -> JSONValue { .text(Data(bytes).base64EncodedString()) }
    static func texts(_ texts: [String]) -> JSONValue { .list(texts.map { .text($0) }) }

    func encode(to encoder: any Encoder) throws {
        var single = encoder.singleValueContainer()
        switch self {
        case .text(let value): try single.encode(value)
        case .int(let value): try single.encode(value)
        case .number(let value): try single.encode(value)
        case .bool(let value): try single.encode(value)
        case .list(let value): try single.encode(value)
        case .object(let value): try single.encode(value)
        case .null: try single.encodeNil()
        }
    }
}

/// A command of a request: a text for the shell, or a list.
enum CommandLine: Decodable {
    case shell(String)
    case list([String])

    init(from decoder: any Decoder) throws {
        let single = try decoder.singleValueContainer()
        if let text = try? single.decode(String.self) {
            self = .shell(text)
        } else {
            self = .list(try single.decode([String].self))
        }
    }
}

/// How long to follow, or whether to.
enum Follow: Decodable {
    case seconds(Double)
    case flag(Bool)

    init(from decoder: any Decoder) throws {
        let single = try decoder.singleValueContainer()
        if let flag = try? single.decode(Bool.self) {
            self = .flag(flag)
        } else {
            self = .seconds(try single.decode(Double.self))
        }
    }
}

/// A request; verbs use what they need.
struct Request: Decodable {
    struct Size: Decodable {
        var rows: Int
        var cols: Int
    }

    var id: Int
    var `do`: String
    var sprite: String?
    var name: String?
    var to: String?
    var prefix: String?
    var page_size: Int?
    var labels: [String]?
    var environment: [String: String]?
    var checkpoint: String?
    var comment: String?
    var command: CommandLine?
    var directory: String?
    var user: String?
    var timeout: Double?
    var kill_after: Double?
    var detachable: Bool?
    var tty: Size?
    var input: String?
    var input_bytes: Int?
    var check: Bool?
    var digest: Bool?
    var output_limit: Int?
    var count: Int?
    var bytes: Int?
    var at_once: Int?
    var process: String?
    var stream: String?
    var lines: Int?
    var until: String?
    var data: String?
    var signal: String?
    var rows: Int?
    var cols: Int?
    var port: Int?
    var session_id: String?
    var forward: String?
    var path: String?
    var local: String?
    var mode: String?
    var recursive: Bool?
    var cmd: String?
    var args: [String]?
    var needs: [String]?
    var http_port: Int?
    var follow: Follow?
    var from: String?
    var patch: Bool?
    var renames: Bool?
    var limit: Int?
    var checked: String?
    var dry_run: Bool?
    var filters: [String: String]?
    var match: String?
    var rules: [PolicyRule]?
    var host: String?
    var value: String?
    var header: String?
    var format: String?

    static func bytes(_ text: String?) -> [UInt8] {
        text.flatMap { Data(base64Encoded: $0) }.map { Array($0) } ?? []
    }

    /// The input of a command: given, or the bytes 0 to 255 again and again.
    var inputBytes: [UInt8] {
        guard let count = input_bytes else { return Self.bytes(input) }
        var made: [UInt8] = []
        made.reserveCapacity(count + 65536)
        let block = (0..<65536).map { UInt8(truncatingIfNeeded: $0) }
        while made.count < count { made += block }
        made.removeLast(made.count - count)
        return made
    }
}
