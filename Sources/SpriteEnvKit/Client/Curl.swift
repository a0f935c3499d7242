// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// `sprite-env curl [-X METHOD] [-d BODY|@FILE|@-] [-i] PATH`: any request to the sprite's API.
enum Curl {
    static func run(_ arguments: ArraySlice<String>) throws -> Int32 {
        let arguments = try Arguments(
            arguments, options: ["-X", "--request", "-d", "--data"], flags: ["-i", "--include", "-s", "-f"])
        var path = try arguments.one("path, such as /v1/checkpoints")
        if let scheme = path.firstRange(of: "http://sprite") { path = String(path[scheme.upperBound...]) }
        guard path.hasPrefix("/"), !path.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F }) else {
            throw usage("the path begins with '/' and holds no spaces")
        }
        let body = try arguments.value("-d", "--data").map(content)
        let method = arguments.value("-X", "--request") ?? (body == nil ? "GET" : "POST")
        guard method.utf8.allSatisfy({ (0x41...0x5A).contains($0) }) else { throw usage("-X is a method such as PUT") }
        let request = try SpriteRequest(method, path, bytes: body)
        if arguments.has("-i") || arguments.has("--include") {
            put("HTTP/1.1 \(request.status)\n" + request.headers.map { "\($0.name): \($0.value)\n" }.joined() + "\n")
        }
        var last: UInt8 = 0x0A
        while let piece = try request.next() {
            put(Array(piece))
            last = piece.last ?? last
        }
        if last != 0x0A { put("\n") }
        return request.status < 400 ? 0 : 1
    }

    private static func content(_ text: String) throws -> [UInt8] {
        guard text.hasPrefix("@") else { return Array(text.utf8) }
        let path = text.dropFirst()
        let descriptor = path == "-" ? STDIN_FILENO : open(String(path), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ClientFailure("cannot read \(path): \(reason(errno))") }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count <= 1 << 20 {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw ClientFailure("cannot read \(path): \(reason(errno))") }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return bytes
    }
}
