// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Glibc
import Sprites

/// Reaches a port of the sprite through a local one.
@Sendable func proxy() async throws {
    try await withSprite { sprite in
        let server = """
            import socket
            listener = socket.create_server(("127.0.0.1", 4000))
            print("ready", flush=True)
            while True:
                peer, _ = listener.accept()
                peer.sendall(b"hello " + peer.recv(100))
                peer.close()
            """
        let running = try await sprite.command(["python3", "-c", server]).start()
        var lines = running.lines.makeAsyncIterator()
        print(try await lines.next()?.text ?? "")
        let forward = try await sprite.forward(localPort: 0, remotePort: 4000)
        print(try await exchanged("port", with: forward.localPort))
        forward.close()
        try running.signal("KILL")
    }
}

/// Any program can use the local port; this one uses plain sockets, on a thread that may wait.
private func exchanged(_ text: String, with port: Int) async throws -> String {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(socket) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            let connected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            var answer: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1024)
            guard connected == 0, send(socket, text, text.utf8.count, 0) == text.utf8.count else {
                return continuation.resume(throwing: POSIXError(.EIO))
            }
            while case let count = recv(socket, &buffer, buffer.count, 0), count > 0 { answer += buffer[..<count] }
            continuation.resume(returning: String(decoding: answer, as: UTF8.self))
        }
    }
}
