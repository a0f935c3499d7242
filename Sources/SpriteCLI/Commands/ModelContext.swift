// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import Glibc
import Sprites

struct ModelContext: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mcp", abstract: "A Model Context Protocol server on standard input and output.",
        discussion: """
            For programs that run models: tools to create sprites, run commands in them, read and write files, make and \
            restore checkpoints. The messages are answered by the daemon; the same is served at /mcp over HTTP with the \
            token.
            """)

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let client = try Context(global).client()
        let conversation = UUID().uuidString
        let output = LineOutput()
        let streams = StandardStreams()
        try await withThrowingDiscardingTaskGroup { group in
            var pending: [UInt8] = []
            while true {
                let piece = await streams.read()
                if piece.isEmpty { break }
                pending += piece
                while let end = pending.firstIndex(of: 0x0A) {
                    let line = Array(pending[..<end])
                    pending.removeFirst(end + 1)
                    if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D }) { continue }
                    if Self.isAlone(line) {
                        // What comes after it relies on it.
                        try await Self.send(line, client, conversation, output)
                    } else {
                        group.addTask { try await Self.send(line, client, conversation, output) }
                    }
                }
                guard pending.count <= 1 << 20 else { throw CommandFailure("a line is longer than a megabyte") }
            }
        }
        try await client.close()
    }

    /// Whether later messages must wait for the answer: the handshake, and what is no request.
    private static func isAlone(_ line: [UInt8]) -> Bool {
        guard let head = try? JSONDecoder().decode(Head.self, from: Data(line)) else { return true }
        return head.id == nil || head.method == "initialize"
    }

    private static func send(
        _ line: [UInt8], _ client: SpritesClient, _ conversation: String, _ output: LineOutput
    ) async throws {
        do {
            try await client.sendModelContext(line, conversation: conversation) { try await output.write($0) }
        } catch let error as SpritesError {
            // The client is told in its own language, where it asked something.
            guard let id = (try? JSONDecoder().decode(Head.self, from: Data(line)))?.id else { return }
            let answer = JSONValue.object([
                "jsonrpc": .text("2.0"), "id": id,
                "error": .object(["code": .integer(-32000), "message": .text(error.message)]),
            ])
            try await output.write(Array(try JSONEncoder().encode(answer)))
        }
    }
}

/// What decides how a message is carried.
private struct Head: Decodable {
    var id: JSONValue?
    var method: String?
}

/// Standard output, a whole line at a time.
private actor LineOutput {
    func write(_ line: [UInt8]) throws {
        let number = (line + [0x0A]).withUnsafeBytes { writeAll(1, $0) }
        if number == EPIPE { throw OutputClosed() }
    }
}
