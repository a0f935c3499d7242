// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Dispatch
import Foundation
import Glibc
import Sprites

/// A server whose every byte a test decides: blocking sockets, one thread per connection.
///
/// It shares no code with the client, so both cannot be wrong in the same way.
final class FakeServer: Sendable {
    let port: Int
    private let listener: Int32

    /// Serves until it is stopped; `script` is called for every connection and closes it by returning.
    init(_ script: @escaping @Sendable (FakeConnection) throws -> Void) throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 64) == 0
                    && getsockname(listener, address, &length) == 0
            }
        }
        guard bound else { throw FakeServerError("cannot listen") }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread {
            while true {
                let socket = accept(listener, nil, nil)
                // Closed here and nowhere else: its number would else be another server's while we accept on it.
                guard socket >= 0 else {
                    Glibc.close(listener)
                    return
                }
                Thread.detachNewThread {
                    let connection = FakeConnection(socket)
                    try? script(connection)
                    connection.close()
                }
            }
        }
    }

    /// Ends the thread that accepts; to be called exactly once.
    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    /// Runs `body` with a client of a server that follows `script`; every command has a connection of its own, unless
    /// it is to use control connections.
    static func with<Result: Sendable>(
        control: Bool = false, options given: SpritesClient.Options = SpritesClient.Options(),
        script: @escaping @Sendable (FakeConnection) throws -> Void,
        _ body: (SpritesClient) async throws -> Result
    ) async throws -> Result {
        let server = try FakeServer(script)
        defer { server.stop() }
        var options = given
        options.usesControl = control
        return try await SpritesClient.with(
            baseURL: "http://127.0.0.1:\(server.port)", token: "a/b/c", options: options, body)
    }
}

struct FakeServerError: Error {
    var text: String
    init(_ text: String) { self.text = text }
}

/// A request as it came.
struct FakeRequest: Sendable {
    var method: String
    var target: String
    var headers: [String: String]
    var body: String
}

/// One accepted connection.
final class FakeConnection: @unchecked Sendable {
    // Unchecked: only the thread of its script uses it.
    private let socket: Int32
    private var pending: [UInt8] = []

    init(_ socket: Int32) { self.socket = socket }

    func close() { Glibc.close(socket) }

    // MARK: Bytes

    func write(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { throw FakeServerError("the client is gone") }
            rest = rest.dropFirst(count)
        }
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    private func fill() throws {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = recv(socket, &buffer, buffer.count, 0)
        guard count > 0 else { throw FakeServerError("the client is gone") }
        pending.append(contentsOf: buffer[..<count])
    }

    private func take(_ count: Int) throws -> [UInt8] {
        while pending.count < count { try fill() }
        defer { pending.removeFirst(count) }
        return Array(pending[..<count])
    }

    // MARK: HTTP

    func readRequest() throws -> FakeRequest {
        let blank = Array("\r\n\r\n".utf8)
        var end = 0
        while true {
            if let found = (end..<max(end, pending.count - 3)).first(where: { Array(pending[$0..<$0 + 4]) == blank }) {
                end = found
                break
            }
            try fill()
        }
        let lines = String(decoding: try take(end + 4), as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ").map(String.init)
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        let body = try take(Int(headers["content-length"] ?? "0") ?? 0)
        return FakeRequest(
            method: words[0], target: words[1], headers: headers, body: String(decoding: body, as: UTF8.self))
    }

    func answer(_ status: Int, _ body: String, headers: [String: String] = [:]) throws {
        var head = "HTTP/1.1 \(status) Something\r\nContent-Length: \(body.utf8.count)\r\n"
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        try write(head + "\r\n" + body)
    }

    // MARK: WebSocket (RFC 6455)

    /// Completes the handshake, and sends `early` right behind it in the same packet.
    func upgrade(_ request: FakeRequest, early: [UInt8] = []) throws {
        guard let key = request.headers["sec-websocket-key"] else { throw FakeServerError("no handshake") }
        let accept = Data(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))).base64EncodedString()
        let head = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        try write(Array((head + "Sec-WebSocket-Accept: \(accept)\r\n\r\n").utf8) + early)
    }

    static func frame(_ opcode: UInt8, _ data: [UInt8], isLast: Bool = true) -> [UInt8] {
        var bytes = [(isLast ? 0x80 : 0) | opcode]
        switch data.count {
        case ..<126: bytes.append(UInt8(data.count))
        case ..<65536: bytes += [126, UInt8(data.count >> 8), UInt8(data.count & 255)]
        default: bytes += [127] + (0..<8).reversed().map { UInt8(data.count >> ($0 * 8) & 255) }
        }
        return bytes + data
    }

    static func text(_ text: String) -> [UInt8] { frame(1, Array(text.utf8)) }
    static func binary(_ stream: UInt8, _ text: String) -> [UInt8] { frame(2, [stream] + Array(text.utf8)) }
    static func info(tty: Bool = false) -> [UInt8] {
        text(#"{"type":"session_info","session_id":"42","command":"x","created":1,"is_owner":true,"tty":\#(tty)}"#)
    }

    /// The next message; a frame that is not masked is an error.
    func readFrame() throws -> (opcode: UInt8, data: [UInt8]) {
        let head = try take(2)
        guard head[1] & 0x80 != 0 else { throw FakeServerError("the frame is not masked") }
        var count = Int(head[1] & 0x7F)
        if count == 126 {
            count = try take(2).reduce(0) { $0 << 8 | Int($1) }
        } else if count == 127 {
            count = try take(8).reduce(0) { $0 << 8 | Int($1) }
        }
        let mask = try take(4)
        let data = try take(count)
        return (head[0] & 0x0F, data.enumerated().map { $1 ^ mask[$0 & 3] })
    }

    /// Reads on until the client closes, so that nothing it was sent is lost.
    func waitForClose() {
        while let frame = try? readFrame(), frame.opcode != 8 {}
    }
}

/// FIPS 180-4, for the handshake.
private func sha1(_ message: [UInt8]) -> [UInt8] {
    var state: [UInt32] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0]
    var bytes = message + [0x80]
    while bytes.count % 64 != 56 { bytes.append(0) }
    bytes += (0..<8).reversed().map { UInt8(truncatingIfNeeded: (message.count * 8) >> ($0 * 8)) }
    func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }
    for block in stride(from: 0, to: bytes.count, by: 64) {
        var words = (0..<16).map { word in
            bytes[block + word * 4..<block + word * 4 + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        for index in 16..<80 {
            words.append(rotate(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1))
        }
        var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
        for index in 0..<80 {
            let (function, constant): (UInt32, UInt32) =
                switch index {
                case ..<20: (b & c | ~b & d, 0x5A82_7999)
                case ..<40: (b ^ c ^ d, 0x6ED9_EBA1)
                case ..<60: (b & c | b & d | c & d, 0x8F1B_BCDC)
                default: (b ^ c ^ d, 0xCA62_C1D6)
                }
            (a, b, c, d, e) = (rotate(a, 5) &+ function &+ e &+ constant &+ words[index], a, rotate(b, 30), c, d)
        }
        state = zip(state, [a, b, c, d, e]).map { $0 &+ $1 }
    }
    return state.flatMap { value in (0..<4).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
}
