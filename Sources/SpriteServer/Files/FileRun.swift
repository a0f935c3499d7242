// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import NIOCore
import SpriteDomain

/// One run of `sprite-env fs` in a sprite: as the sprite's user and in its own root, so that no path leads out of it.
///
/// It prints one line of JSON and then, for some operations, a body. Its standard input is closed when somebody
/// listens: until then it does not begin the body.
struct FileRun: Sendable {
    private static let lineBytesMax = 1 << 20

    let session: any ExecSession
    private let reader: any SessionReader
    /// Keeps the sprite awake: commands of the daemon itself do not.
    private let use: any SpriteUse

    init(
        _ control: any SpriteControl, _ sprite: SpriteName, _ operation: String, _ options: [String],
        paths: [String], asRoot: Bool, takesInput: Bool
    ) async throws {
        var request = ExecRequest(
            arguments: ["sprite-env", "fs", operation] + options + ["--"] + paths, path: "/.sprite/bin/sprite-env",
            directory: "/", user: asRoot ? "root" : nil, takesInput: true, maxRunAfterDisconnect: .seconds(1))
        request.tag = "files"
        use = try await control.use(sprite)
        do {
            session = try await control.exec(sprite, request)
        } catch {
            use.end()
            throw error
        }
        reader = session.attach()
        if !takesInput { session.closeInput() }
    }

    /// Ends the command if it still runs.
    func end() {
        // Asked first, so that it removes what it has begun; it is killed soon after.
        session.signal(SIGTERM)
        reader.detach()
        use.end()
    }

    /// The first line, and what came after it already.
    ///
    /// Throws ``FileProblem`` if the operation failed.
    func header() async throws -> (line: ByteBuffer, facts: FileHeader, rest: ByteBuffer) {
        var collected = ByteBuffer()
        var complaints = ""
        while let event = try await reader.next() {
            switch event {
            case .output(.stdout, var bytes):
                collected.writeBuffer(&bytes)
                if let end = collected.readableBytesView.firstIndex(of: 0x0A) {
                    let count = end - collected.readerIndex
                    guard let line = collected.readSlice(length: count) else { throw broken("it has no line") }
                    collected.moveReaderIndex(forwardBy: 1)
                    let facts = try facts(line)
                    if let problem = facts.problem { throw problem }
                    return (line, facts, collected)
                }
                guard collected.readableBytes <= FileRun.lineBytesMax else { throw broken("its line is too long") }
            case .output(.stderr, let bytes):
                if complaints.utf8.count < 4096 { complaints += String(buffer: bytes) }
            case .exited(let status):
                if status == .lost {
                    throw SpriteError(.unavailable, "cannot reach the files: the sprite has stopped")
                }
                throw broken("it ended with \(status.code): \(complaints.prefix(1024))")
            }
        }
        throw broken("it ended without a word")
    }

    private func facts(_ line: ByteBuffer) throws -> FileHeader {
        guard JSONSyntax.firstProblem(Array(line.readableBytesView)) == nil,
            let facts = try? JSONBody.decode(FileHeader.self, from: line)
        else { throw broken("its line is not JSON") }
        return facts
    }

    /// The next piece of the body; nil when all of it came.
    func next() async throws -> ByteBuffer? {
        while let event = try await reader.next() {
            switch event {
            case .output(.stdout, let bytes): return bytes
            case .output(.stderr, _): continue
            case .exited(.exited(0)): return nil
            case .exited(let status): throw broken("it ended with \(status.code) in the middle")
            }
        }
        return nil
    }

    /// The line of an operation without a body.
    func result() async throws -> ByteBuffer {
        let line = try await header().line
        // Read to the end, so that the session is forgotten at once.
        while try await next() != nil {}
        return line
    }

    private func broken(_ reason: String) -> SpriteError {
        struct Reason: Error { var text: String }
        return SpriteError(
            .internalError, "cannot reach the files: the sprite's own program for them failed",
            cause: Reason(text: reason))
    }
}
