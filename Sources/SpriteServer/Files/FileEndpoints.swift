// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

extension APIService {
    /// Answers one request of the filesystem section of the API.
    func files(_ exchange: Exchange, _ name: SpriteName, _ operation: FileOperation) async throws {
        guard exchange.head.method != .HEAD else {
            throw SpriteError(
                .methodNotAllowed, "cannot HEAD this path: use \(operation.methods.joined(separator: ", "))")
        }
        do {
            try await cancelWhenGracefulShutdown {
                try await perform(exchange, name, operation)
            }
        } catch let problem as FileProblem where exchange.status == nil {
            try await exchange.send(problem.status, json: problem.body)
        }
    }

    private func perform(_ exchange: Exchange, _ name: SpriteName, _ operation: FileOperation) async throws {
        let query = try exchange.target.query()
        switch operation {
        case .read: try await readFile(exchange, name, FileParameters(query))
        case .list: try await listFiles(exchange, name, FileParameters(query))
        case .write: try await writeFile(exchange, name, FileParameters(query))
        case .archive where exchange.method == "GET":
            let run = try await run(name, "tar-out", [], FileParameters(query), ["path"])
            try await stream(run, "application/x-tar", to: exchange)
        case .archive:
            let parameters = FileParameters(query)
            let parents = try parameters.flag("mkdirParents", default: true) ? ["--parents"] : []
            let run = try await run(name, "tar-in", parents, parameters, ["path"], takesInput: true)
            try await upload(exchange, run)
        case .delete, .rename, .copy, .chmod, .chown:
            let body = try await exchange.body(FileParameters.Body.self)
            try await change(exchange, name, operation, FileParameters(query, body))
        case .watch: try await requireUpgrade(exchange, name, .files(name.rawValue, operation))
        }
    }

    // MARK: Changes

    private func change(
        _ exchange: Exchange, _ name: SpriteName, _ operation: FileOperation, _ parameters: FileParameters
    ) async throws {
        var options = try parameters.flag("recursive") ? ["--recursive"] : []
        var paths = ["path"]
        switch operation {
        case .rename: paths = ["source", "dest"]
        case .copy:
            paths = ["source", "dest"]
            if try parameters.flag("preserveAttrs") { options.append("--preserve") }
        case .chmod:
            guard let mode = try parameters.mode() else {
                throw FileProblem(code: "EINVAL", text: "invalid argument: 'mode' is missing", path: "")
            }
            options.append("--mode=\(mode)")
        case .chown:
            for field in ["uid", "gid"] {
                if let owner = try parameters.owner(field) { options.append("--\(field)=\(owner)") }
            }
        default: break
        }
        let run = try await run(name, operation.rawValue, options, parameters, paths)
        defer { run.end() }
        let line = try await withDeadline { try await run.result() }
        try await exchange.send(.ok, ["content-type": "application/json"], body: line)
    }

    private func run(
        _ name: SpriteName, _ operation: String, _ options: [String], _ parameters: FileParameters, _ paths: [String],
        pathsRequired: Bool = true, takesInput: Bool = false
    ) async throws -> FileRun {
        let resolved = try paths.map { try parameters.path($0, required: pathsRequired) }
        return try await FileRun(
            control, name, operation, options, paths: resolved, asRoot: try parameters.flag("asRoot"),
            takesInput: takesInput)
    }

    /// A process of the sprite can stop the program without ending it.
    private func withDeadline<Value: Sendable>(
        _ work: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        try await withThrowingTaskGroup(of: Value.self) { group in
            group.addTask { try await work() }
            group.addTask {
                try await Task.sleep(for: Limits.fileOperationTimeout)
                throw SpriteError(
                    .timeout, "cannot finish the file operation: it took longer than \(Limits.fileOperationTimeout)")
            }
            defer { group.cancelAll() }
            guard let value = try await group.next() else { throw CancellationError() }
            return value
        }
    }

    // MARK: Reading

    private func listFiles(_ exchange: Exchange, _ name: SpriteName, _ parameters: FileParameters) async throws {
        var options = try parameters.flag("recursive") ? ["--recursive"] : []
        if let pattern = parameters.text("pattern") {
            guard pattern.utf8.count <= 1024, !pattern.utf8.contains(0) else {
                throw FileProblem(
                    code: "EINVAL", text: "invalid argument: 'pattern' is longer than 1024 bytes", path: "")
            }
            options.append("--pattern=\(pattern)")
        }
        let run = try await run(name, "list", options, parameters, ["path"], pathsRequired: false)
        try await stream(run, "application/json", to: exchange)
    }

    private func readFile(_ exchange: Exchange, _ name: SpriteName, _ parameters: FileParameters) async throws {
        var options: [String] = []
        if !exchange.head.headers.contains(name: "if-range"), let text = exchange.head.headers.first(name: "range") {
            options = ByteRange.options(text)
        }
        let run = try await run(name, "read", options, parameters, ["path"])
        try await stream(run, "application/octet-stream", to: exchange)
    }

    /// Sends the body of a run; one that ends early ends the connection, so that the client sees it.
    private func stream(_ run: FileRun, _ type: String, to exchange: Exchange) async throws {
        defer { run.end() }
        let (_, facts, rest) = try await withDeadline { try await run.header() }
        if facts.unsatisfiable == true {
            while try await run.next() != nil {}
            let problem = FileProblem(
                code: "EINVAL", text: "invalid argument: the range is outside of the file", path: "")
            return try await exchange.send(
                .rangeNotSatisfiable,
                ["content-type": "application/json", "content-range": "bytes */\(max(facts.size ?? 0, 0))"],
                body: try JSONBody.encode(problem.body))
        }
        var headers: HTTPHeaders = ["content-type": type, "x-content-type-options": "nosniff"]
        var status = HTTPResponseStatus.ok
        var expected: Int64?
        if let length = facts.length, length >= 0 {
            expected = length
            headers.add(name: "content-length", value: "\(length)")
            headers.add(name: "accept-ranges", value: "bytes")
            if facts.partial == true, length > 0, let offset = facts.offset, let size = facts.size, offset >= 0 {
                status = .partialContent
                headers.add(name: "content-range", value: "bytes \(offset)-\(offset &+ length &- 1)/\(size)")
            }
        } else if exchange.head.version != .http1_1 {
            exchange.closeAfterwards()
        }
        try await exchange.begin(headers, status: status)
        var sent: Int64 = 0
        var piece: ByteBuffer? = rest
        while let bytes = piece {
            sent += Int64(bytes.readableBytes)
            // More than was announced would be taken for the next answer.
            if let expected, sent > expected { throw ChannelError.inputClosed }
            if bytes.readableBytes > 0 { try await exchange.write([bytes]) }
            piece = try await run.next()
        }
        if let expected, sent != expected { throw ChannelError.inputClosed }
        try await exchange.end()
    }

    // MARK: Writing

    private func writeFile(_ exchange: Exchange, _ name: SpriteName, _ parameters: FileParameters) async throws {
        var options: [String] = []
        if let mode = try parameters.mode() { options.append("--mode=\(mode)") }
        if try parameters.flag("mkdirParents", default: try parameters.flag("mkdir", default: true)) {
            options.append("--parents")
        }
        if let length = exchange.head.headers.first(name: "content-length").flatMap(Int64.init), length >= 0 {
            options.append("--size=\(length)")
        }
        try await upload(exchange, try await run(name, "write", options, parameters, ["path"], takesInput: true))
    }

    /// The next piece of a body; a client that leaves in the middle is no fault of anybody here.
    ///
    /// A client that sends nothing for as long as one may take nothing is cut off: it would keep a sprite awake, and a
    /// process in it, for ever.
    private func nextBody(_ exchange: Exchange) async throws -> ByteBuffer? {
        let (channel, limit) = (exchange.client.channel, configuration.timing.stalledClient)
        let deadline =
            limit > .zero
            ? channel?.eventLoop.scheduleTask(in: TimeAmount(limit)) { channel?.close(promise: nil) } : nil
        defer { deadline?.cancel() }
        do {
            return try await exchange.parts.nextBody()
        } catch is HTTPParserError {
            throw ChannelError.inputClosed
        }
    }

    /// Hands the request's body to a run, as fast as it takes it, and answers with its line.
    ///
    /// The input ends only when the whole body was handed over: a client that breaks off changes nothing.
    private func upload(_ exchange: Exchange, _ run: FileRun) async throws {
        defer { run.end() }
        let outcome = NIOLockedValueBox<Result<ByteBuffer, FileProblem>?>(nil)
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        let line = try await run.result()
                        outcome.withLockedValue { $0 = .success(line) }
                    } catch let problem as FileProblem {
                        outcome.withLockedValue { $0 = .failure(problem) }
                    }
                }
                group.addTask {
                    try await exchange.sendContinue()
                    var discarded = 0
                    while let bytes = try await nextBody(exchange) {
                        guard outcome.withLockedValue({ $0 == nil }) else {
                            // It has failed already; most clients read the answer only after they have sent everything.
                            discarded += bytes.readableBytes
                            if discarded > Limits.discardedBodyBytesMax { return exchange.closeAfterwards() }
                            continue
                        }
                        try await run.session.writeInput(bytes)
                    }
                    run.session.closeInput()
                }
                // Not waitForAll(), which goes on waiting when the client has left.
                while try await group.next() != nil {}
            }
        } catch {
            exchange.closeAfterwards()
            throw error
        }
        guard let line = try outcome.withLockedValue({ try $0?.get() }) else { throw CancellationError() }
        try await exchange.send(.ok, ["content-type": "application/json"], body: line)
    }
}

/// One range of bytes, as a client asks for it (RFC 9110 §14.1.2).
enum ByteRange {
    /// As options for the program; nothing if it is to be ignored: another unit, several ranges, or no range at all.
    static func options(_ text: String) -> [String] {
        let text = text.lowercased().filter { $0 != " " }
        guard text.hasPrefix("bytes=") else { return [] }
        let ends = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, ends.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }) else { return [] }
        let (first, last) = (Int64(ends[0]), Int64(ends[1]))
        switch (ends[0].isEmpty, ends[1].isEmpty) {
        case (false, true): return first.map { ["--first=\($0)"] } ?? []
        case (true, false): return last.map { ["--suffix=\($0)"] } ?? []
        case (false, false):
            guard let first, let last, first <= last else { return [] }
            return ["--first=\(first)", "--last=\(last)"]
        case (true, true): return []
        }
    }
}
