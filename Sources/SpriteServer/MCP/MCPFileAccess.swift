// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain
import SpriteMCP

/// Files for tools of models, by the sprite's own program, as for the API.
struct MCPFileAccess: MCPFiles {
    private static let listBytesMax = 8 << 20
    private static let timeout: Duration = .seconds(60)

    let control: any SpriteControl

    func read(
        _ sprite: SpriteName, _ path: String, offset: Int, limit: Int
    ) async throws -> (bytes: [UInt8], size: Int) {
        try await told {
            let run = try await FileRun(
                control, sprite, "read", ["--first=\(offset)", "--last=\(offset &+ limit &- 1)"], paths: [path],
                asRoot: false, takesInput: false)
            defer { run.end() }
            let (_, facts, rest) = try await run.header()
            if facts.unsatisfiable == true { return ([], Int(clamping: facts.size ?? 0)) }
            let bytes = try await collect(run, rest, limit: limit)
            return (bytes, Int(clamping: facts.size ?? Int64(bytes.count)))
        }
    }

    func write(_ sprite: SpriteName, _ path: String, _ bytes: [UInt8], mode: String?) async throws {
        try await told {
            let options = ["--parents", "--size=\(bytes.count)"] + (mode.map { ["--mode=\($0)"] } ?? [])
            let run = try await FileRun(
                control, sprite, "write", options, paths: [path], asRoot: false, takesInput: true)
            defer { run.end() }
            try await run.session.writeInput(ByteBuffer(bytes: bytes))
            run.session.closeInput()
            _ = try await run.result()
        }
    }

    func list(_ sprite: SpriteName, _ path: String) async throws -> [UInt8] {
        try await told {
            let run = try await FileRun(control, sprite, "list", [], paths: [path], asRoot: false, takesInput: false)
            defer { run.end() }
            let (_, _, rest) = try await run.header()
            return try await collect(run, rest, limit: MCPFileAccess.listBytesMax)
        }
    }

    func delete(_ sprite: SpriteName, _ path: String, recursive: Bool) async throws {
        try await told {
            let run = try await FileRun(
                control, sprite, "delete", recursive ? ["--recursive"] : [], paths: [path], asRoot: false,
                takesInput: false)
            defer { run.end() }
            _ = try await run.result()
        }
    }

    private func collect(_ run: FileRun, _ first: ByteBuffer, limit: Int) async throws -> [UInt8] {
        var bytes = Array(first.readableBytesView)
        while let piece = try await run.next() {
            bytes += piece.readableBytesView
            guard bytes.count <= limit else {
                throw SpriteError(.tooLarge, "the answer is larger than \(limit) bytes")
            }
        }
        return bytes
    }

    /// A failure of the operation, as a sentence with its POSIX name; and a deadline, since a process of the sprite can
    /// stop the program without ending it.
    private func told<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        do {
            return try await withThrowingTaskGroup(of: Value.self) { group in
                group.addTask { try await body() }
                group.addTask {
                    try await Task.sleep(for: MCPFileAccess.timeout)
                    throw SpriteError(.timeout, "the file operation took longer than \(MCPFileAccess.timeout)")
                }
                defer { group.cancelAll() }
                guard let value = try await group.next() else { throw CancellationError() }
                return value
            }
        } catch let problem as FileProblem {
            let code: SpriteError.Code =
                switch problem.code {
                case "ENOENT": .notFound
                case "ENOSPC", "EDQUOT": .noSpace
                default: .invalidRequest
                }
            throw SpriteError(
                code, "\(problem.code): \(problem.text)\(problem.path.isEmpty ? "" : " (\(problem.path))")")
        }
    }
}
