// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// One request to the sprite's API and its answer, in as much HTTP/1.1 as that takes.
final class SpriteRequest {
    let status: Int
    private(set) var headers: [(name: String, value: String)] = []
    private let socket: SpriteSocket
    private enum Body {
        case length(Int)
        case chunks(left: Int)
        case untilEnd
        case done
    }
    private var body = Body.done

    /// - Parameter path: With its query, percent-encoded.
    init(_ method: String, _ path: String, _ json: JSONText? = nil, bytes: [UInt8]? = nil) throws {
        socket = try SpriteSocket()
        let content = json?.bytes ?? bytes
        var head = "\(method) \(path) HTTP/1.1\r\nhost: sprite\r\nconnection: close\r\n"
        if let content { head += "content-type: application/json\r\ncontent-length: \(content.count)\r\n" }
        try socket.send(Array((head + "\r\n").utf8) + (content ?? []))
        status = try SpriteRequest.readHead(socket, &headers)
        body = bodyForm(method)
    }

    static func readHead(_ socket: SpriteSocket, _ headers: inout [(name: String, value: String)]) throws -> Int {
        guard let line = try socket.line() else {
            throw ClientFailure(
                "the sprite's API closed the connection without an answer; at most 32 connections of a sprite are "
                    + "served at once: try again")
        }
        let words = line.split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw ClientFailure("the sprite's API did not answer in HTTP")
        }
        while let line = try socket.line(), !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers.append((line[..<colon].lowercased(), String(value)))
        }
        return status
    }

    private func bodyForm(_ method: String) -> Body {
        if method == "HEAD" || status == 204 || status == 304 { return .done }
        if header("transfer-encoding")?.lowercased() == "chunked" { return .chunks(left: 0) }
        if let text = header("content-length") { return .length(Int(text) ?? 0) }
        return .untilEnd
    }

    func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

    /// The next piece of the body; nil at its end.
    func next() throws -> ArraySlice<UInt8>? {
        switch body {
        case .done:
            return nil
        case .untilEnd:
            let piece = try socket.receive()
            return piece.isEmpty ? nil : piece
        case .length(let left):
            guard left > 0 else { return nil }
            let piece = try received(atMost: left)
            body = .length(left - piece.count)
            return piece
        case .chunks(var left):
            if left == 0 {
                guard let line = try socket.line(), let size = Int(line.prefix { $0 != ";" }, radix: 16) else {
                    throw brokenOff
                }
                guard size > 0 else {
                    body = .done
                    return nil
                }
                left = size
            }
            let piece = try received(atMost: left)
            if left == piece.count { _ = try socket.line() }
            body = .chunks(left: left - piece.count)
            return piece
        }
    }

    private func received(atMost limit: Int) throws -> ArraySlice<UInt8> {
        let piece = try socket.receive(atMost: limit)
        if piece.isEmpty { throw brokenOff }
        return piece
    }

    private var brokenOff: ClientFailure {
        ClientFailure("the answer broke off: the host's daemon was stopped, or this sprite is being stopped")
    }

    /// The whole body, which is small.
    func all() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let piece = try next() {
            bytes += piece
            guard bytes.count <= 64 << 20 else { throw ClientFailure("the answer is larger than 64 MiB") }
        }
        return bytes
    }

    /// Calls for each line of a body of lines.
    func eachLine(_ body: (JSONValue, [UInt8]) throws -> Void) throws {
        var line: [UInt8] = []
        while let piece = try next() {
            for part in piece.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
                if part.offset > 0 {
                    if !line.isEmpty { try body(try JSONValue.parse(line), line) }
                    line = []
                }
                line += part.element
            }
        }
        if !line.isEmpty { try body(try JSONValue.parse(line), line) }
    }

    /// Throws what the API says if it refused.
    func checked() throws -> SpriteRequest {
        guard status >= 400 else { return self }
        let bytes = try all()
        let error = try? JSONValue.parse(bytes)
        let text = error?["message"]?.text ?? String(decoding: bytes.prefix(1000), as: UTF8.self)
        throw ClientFailure(text.isEmpty ? "the API answered with status \(status)" : text)
    }
}

/// Percent-encodes a part of a path or a value of a query.
func encoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var bytes: [UInt8] = []
    for byte in text.utf8 {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: bytes.append(byte)
        default: bytes += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}
