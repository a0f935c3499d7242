// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

/// A client that is told what changes in a sprite's files.
struct FileWatchSocket: Sendable {
    private static let subscriptionsMax = 16
    private static let pathsMax = 256
    private static let lineBytesMax = 64 << 10

    private struct Message: Codable {
        var type: String
        var paths: [String]?
        var recursive: Bool?
        var workingDir: String?
        var message: String?
        var code: String?
        var path: String?
    }

    let service: APIService
    let sprite: SpriteName

    func serve(_ connection: WebSocketConnection) async {
        do {
            try await cancelWhenGracefulShutdown {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    defer { group.cancelAll() }
                    var subscriptions = 0
                    for try await message in connection.inbound {
                        guard case .text(let bytes) = message else {
                            if case .closed = message { return }
                            continue
                        }
                        guard bytes.readableBytes <= 1 << 20,
                            let request = try? JSONBody.decode(Message.self, from: bytes), request.type == "subscribe"
                        else {
                            try await say("not understood: send type 'subscribe' and 'paths'", connection)
                            continue
                        }
                        subscriptions += 1
                        let paths = request.paths ?? []
                        guard subscriptions <= Self.subscriptionsMax, (1...Self.pathsMax).contains(paths.count) else {
                            try await say(
                                "too many subscriptions, or too many paths or none: the limits are "
                                    + "\(Self.subscriptionsMax) and \(Self.pathsMax)", connection)
                            continue
                        }
                        group.addTask { await follow(request, paths, connection) }
                    }
                }
            }
        } catch is CancellationError {
            try? await connection.outbound.write(.close(API.CloseCode.goingAway, "the server is stopping"))
        } catch {
            service.logger.debug("files not watched", metadata: ["error": "\(error)"])
        }
    }

    private func say(_ text: String, _ connection: WebSocketConnection) async throws {
        try await connection.outbound.write(.text(try JSONBody.encode(Message(type: "error", message: text))))
    }

    private func follow(_ request: Message, _ paths: [String], _ connection: WebSocketConnection) async {
        do {
            let resolved = try paths.map { try FilePath.resolve($0, in: request.workingDir) }
            let run = try await FileRun(
                service.control, sprite, "watch", request.recursive == true ? ["--recursive"] : [], paths: resolved,
                asRoot: false, takesInput: false)
            defer { run.end() }
            let (line, _, rest) = try await run.header()
            try await connection.outbound.write(.text(line))
            var collected = rest
            repeat {
                while let end = collected.readableBytesView.firstIndex(of: 0x0A),
                    let line = collected.readSlice(length: end - collected.readerIndex)
                {
                    collected.moveReaderIndex(forwardBy: 1)
                    // It comes from inside: only what is JSON goes on.
                    guard JSONSyntax.firstProblem(Array(line.readableBytesView)) == nil else { continue }
                    try await connection.outbound.write(.text(line))
                }
                guard collected.readableBytes <= Self.lineBytesMax, var more = try await run.next() else { break }
                collected.discardReadBytes()
                collected.writeBuffer(&more)
            } while true
            try await say("the watch has ended", connection)
        } catch let problem as FileProblem {
            let message = Message(type: "error", message: problem.text, code: problem.code, path: problem.path)
            if let bytes = try? JSONBody.encode(message) { try? await connection.outbound.write(.text(bytes)) }
        } catch {
            guard !Task.isCancelled else { return }
            try? await say((error as? SpriteError)?.message ?? "the files cannot be watched", connection)
        }
    }
}
