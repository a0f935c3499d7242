// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

extension Bench {
    /// A service in a sprite over the sprite's URL, and over its address on the bridge.
    func url() async throws {
        try await withSprite { sprite in
            try await self.shell(sprite, "cat > server.py <<'END'\n\(serverScript)\nEND")
            let server = try await sprite.command(["python3", "server.py"]).start()
            server.closeInput()
            var address = ""
            for try await chunk in server.output {
                address += String(decoding: chunk.bytes, as: UTF8.self)
                if address.hasSuffix("\n") { break }
            }
            address = String(address.dropLast())
            let host = "\(sprite.name).sprites.localhost"
            let direct = try PlainClient(address: address, port: 8080, host: host, token: nil)
            let proxied = try PlainClient(
                address: "127.0.0.1", port: self.apiPort, host: host, token: try readFile(self.settings.tokenFile))
            try await self.latency(direct, proxied)
            try await self.bandwidth(direct, proxied)
            try await server.close()
        }
    }

    private var apiPort: Int { settings.url.split(separator: ":").last.flatMap { Int($0) } ?? 7780 }

    private func latency(_ direct: PlainClient, _ proxied: PlainClient) async throws {
        var raw = Samples()
        let samples = try await measure(200) { run in
            let without = try await timed { try direct.get("/small", bytes: 5) }
            if run >= 0 { raw.add(without) }
            return try await timed { try proxied.get("/small", bytes: 5) }
        }
        report.add(
            Row(
                "GET over the URL", samples, raw: ("direct", raw), bars: [.atMost(raw.median + 1, "direct + 1")]))
    }

    private func bandwidth(_ direct: PlainClient, _ proxied: PlainClient) async throws {
        let bytes = 256 << 20
        func rate(_ client: PlainClient) async throws -> Double {
            let took = try await timed { try client.get("/large", bytes: bytes) }
            return Double(bytes) / 1e6 / (took.milliseconds / 1e3)
        }
        var raw = Samples()
        var rates = Samples()
        for _ in 0..<settings.throughputRuns {
            raw.add(milliseconds: try await rate(direct))
            rates.add(milliseconds: try await rate(proxied))
        }
        var row = Row(
            "256 MiB over the URL", rates, raw: ("direct", raw), bars: [.atLeast(raw.median / 2, "0.5 × direct")])
        row.unit = "MB/s"
        report.add(row)
    }
}

/// Answers `/large` with 256 MiB and everything else with five bytes; says its address first.
private let serverScript = """
    import socket, threading
    one = socket.create_server(("0.0.0.0", 8080))
    way = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    way.connect(("192.0.2.1", 9))
    print(way.getsockname()[0], flush=True)
    block = bytes(1 << 20)
    def serve(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while True:
            while b"\\r\\n\\r\\n" not in data:
                more = client.recv(65536)
                if not more: return
                data += more
            head, _, data = data.partition(b"\\r\\n\\r\\n")
            if head.startswith(b"GET /large"):
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 268435456\\r\\n\\r\\n")
                for _ in range(256): client.sendall(block)
            else:
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nsmall")
    while True:
        client, _ = one.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()
    """

/// One kept connection that costs as little as can be, since what it measures is on the other side.
private final class PlainClient {
    private let socket: Int32
    private let head: String
    private var buffer = [UInt8](repeating: 0, count: 1 << 20)

    init(address: String, port: Int, host: String, token: String?) throws {
        let token = token.map { $0.filter { !$0.isWhitespace } }
        self.head = "Host: \(host)\r\n" + (token.map { "Authorization: Bearer \($0)\r\n" } ?? "") + "\r\n"
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.socket = socket
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = UInt16(port).bigEndian
        guard inet_pton(AF_INET, address, &place.sin_addr) == 1 else {
            throw BenchFailure("'\(address)' is no address")
        }
        let connected = withUnsafePointer(to: &place) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw BenchFailure("cannot connect to \(address):\(port), errno \(errno)") }
    }

    deinit { close(socket) }

    /// Asks for a path and reads the answer, whose body has to be so long.
    func get(_ path: String, bytes: Int) throws {
        let request = Array("GET \(path) HTTP/1.1\r\n\(head)".utf8)
        guard send(socket, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            throw BenchFailure("cannot send, errno \(errno)")
        }
        var received: [UInt8] = []
        var end: Int?
        while end == nil {
            let count = recv(socket, &buffer, 64 << 10, 0)
            guard count > 0 else { throw BenchFailure("no answer to \(path), errno \(errno)") }
            received += buffer[..<count]
            end = (3..<max(3, received.count)).first { received[($0 - 3)...$0].elementsEqual([13, 10, 13, 10]) }
        }
        let text = String(decoding: received.prefix(16), as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 200") else { throw BenchFailure("\(path) was answered \(text)") }
        var left = bytes - (received.count - (end ?? 0) - 1)
        while left > 0 {
            let count = recv(socket, &buffer, min(left, buffer.count), 0)
            guard count > 0 else { throw BenchFailure("\(path) broke off, errno \(errno)") }
            left -= count
        }
        guard left == 0 else { throw BenchFailure("\(path) is \(-left) bytes too long") }
    }
}
