// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env mcp`: the Model Context Protocol on standard input and output, spoken by the daemon.
///
/// A line in is a message for it, a line out is one of its messages; this program only carries them.
enum Conversation {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(arguments)
        try arguments.none()
        let socket = try SpriteSocket()
        let head =
            "POST /mcp/stdio HTTP/1.1\r\nhost: sprite\r\ncontent-type: application/x-ndjson\r\n"
            + "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        try socket.send(Array(head.utf8))
        var isOpen = true
        var answer = Answer()
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            var waiting = [
                pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isOpen ? STDIN_FILENO : -1, events: Int16(POLLIN), revents: 0),
            ]
            if poll(&waiting, 2, -1) < 0 {
                if errno == EINTR { continue }
                throw ClientFailure("cannot wait: \(reason(errno))")
            }
            if waiting[1].revents != 0 {
                let count = read(STDIN_FILENO, &buffer, buffer.count)
                if count > 0 {
                    try socket.send(
                        Array(String(count, radix: 16).utf8) + [0x0D, 0x0A] + buffer[..<count] + [0x0D, 0x0A])
                } else if count == 0 || errno != EINTR {
                    isOpen = false
                    try socket.send(Array("0\r\n\r\n".utf8))
                }
            }
            if waiting[0].revents != 0 {
                let piece = try socket.receive()
                if piece.isEmpty { throw ClientFailure("the host's daemon ended the conversation") }
                try answer.take(piece)
                if answer.isDone { return 0 }
            }
        }
    }

    /// A chunked answer, taken apart as it comes.
    private struct Answer {
        private enum Part {
            case head
            case size
            case data(Int)
            case end
        }
        private var part = Part.head
        private var line: [UInt8] = []
        private var isFirst = true
        private var status = 0
        private(set) var isDone = false

        mutating func take(_ piece: ArraySlice<UInt8>) throws {
            var rest = piece
            while !rest.isEmpty, !isDone {
                if case .data(let left) = part {
                    let bytes = rest.prefix(left)
                    put(Array(bytes), status < 400 ? STDOUT_FILENO : STDERR_FILENO)
                    rest = rest.dropFirst(bytes.count)
                    part = left == bytes.count ? .end : .data(left - bytes.count)
                    continue
                }
                let byte = rest.removeFirst()
                if byte == 0x0A {
                    try endLine()
                } else if byte != 0x0D {
                    line.append(byte)
                    guard line.count < 64 << 10 else { throw ClientFailure("the answer is not HTTP") }
                }
            }
        }

        private mutating func endLine() throws {
            let text = String(decoding: line, as: UTF8.self)
            line = []
            switch part {
            case .head where isFirst:
                isFirst = false
                status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
                guard (200..<300).contains(status) else {
                    throw ClientFailure("the sprite's API refused the conversation with status \(status)")
                }
            case .head: if text.isEmpty { part = .size }
            case .size:
                guard let size = Int(text.prefix { $0 != ";" }, radix: 16) else {
                    throw ClientFailure("the answer is not in chunks")
                }
                if size == 0 { isDone = true } else { part = .data(size) }
            case .end: part = .size
            case .data: break
            }
        }
    }
}
