// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import SpriteAPI
import SpriteDomain

/// Tries, races and bisections: NDJSON streams that end with what came out.
extension APIService {
    func attempt(_ exchange: Exchange, _ name: SpriteName) async throws {
        let states = try stateControl()
        let body = try await exchange.requiredBody(API.AttemptRequest.self)
        var request = AttemptRequest(
            command: try command(body.command, body), check: try body.check.map { try command($0, body) })
        request.isDryRun = body.dryRun ?? false
        request.timeout = try timeout(body)
        _ = try await control.get(name)
        let asked = request
        try await operate(exchange) { stream in
            let changes = StatBox()
            let outcome = try await states.attempt(name, asked) { event in
                switch event {
                case .note(let text): try await stream.send([API.AttemptLine(type: "info", data: text)])
                case .output(let output, let bytes): try await stream.send([line(output, bytes)])
                case .commandEnded(let status): try await stream.send([ending("exit", status)])
                case .checkEnded(let status): try await stream.send([ending("check_exit", status)])
                case .diff(let diff):
                    await changes.set(stat(diff))
                    try await stream.send(diff.changes.prefix(Limits.attemptChangesMax).map(line))
                }
            }
            var last = API.AttemptLine(type: "complete")
            last.outcome = outcome.result.rawValue
            last.exitCode = Int(outcome.exit.code)
            last.checkExitCode = outcome.check.map { Int($0.code) }
            last.checkpointID = outcome.before?.rawValue
            last.replacedID = outcome.replaced?.rawValue
            last.stat = await changes.value
            return last
        }
    }

    func race(_ exchange: Exchange, _ name: SpriteName) async throws {
        let states = try stateControl()
        let body = try await exchange.requiredBody(API.AttemptRequest.self)
        var request = RaceRequest(command: try command(body.command, body), count: body.count ?? 2)
        guard (1...Limits.racersMax).contains(request.count) else {
            throw SpriteError(
                .invalidRequest, "invalid race: count is \(request.count), use 1 to \(Limits.racersMax)")
        }
        request.score = try body.score.map { try command($0, body) }
        request.isLowestBest = body.lowest ?? false
        request.checkpoint = try body.checkpoint.flatMap { $0.isEmpty ? nil : try checkpointID($0, of: name) }
        request.promotes = body.promote ?? false
        request.timeout = try timeout(body)
        _ = try await control.get(name)
        let asked = request
        try await operate(exchange) { stream in
            let outcome = try await states.race(name, asked) { event in
                switch event {
                case .note(let text): try await stream.send([API.AttemptLine(type: "info", data: text)])
                case .finished(let racer):
                    var line = API.AttemptLine(type: "racer")
                    line.racer = wire(racer)
                    try await stream.send([line])
                }
            }
            var last = API.AttemptLine(type: "complete")
            last.ranking = outcome.ranking.map(\.index)
            last.checkpointID = outcome.source.rawValue
            last.promotedID = outcome.promoted?.rawValue
            last.replacedID = outcome.replaced?.rawValue
            return last
        }
    }

    func bisect(_ exchange: Exchange, _ name: SpriteName) async throws {
        let states = try stateControl()
        let body = try await exchange.requiredBody(API.AttemptRequest.self)
        guard let good = body.good, let bad = body.bad else {
            throw SpriteError(
                .invalidRequest, "invalid bisection: give checkpoints as 'good' and 'bad', such as v1 and v9")
        }
        var request = BisectRequest(
            command: try command(body.command, body), good: try checkpointID(good, of: name),
            bad: try checkpointID(bad, of: name))
        request.includesAutomatic = body.includeAuto ?? false
        request.timeout = try timeout(body)
        _ = try await control.get(name)
        let asked = request
        try await operate(exchange) { stream in
            let outcome = try await states.bisect(name, asked) { event in
                switch event {
                case .note(let text): try await stream.send([API.AttemptLine(type: "info", data: text)])
                case .output(let output, let bytes): try await stream.send([line(output, bytes)])
                case .tested(let id, let verdict, let status, let left):
                    var line = ending("tested", status)
                    line.checkpointID = id.rawValue
                    line.verdict = verdict.rawValue
                    line.left = left
                    try await stream.send([line])
                }
            }
            var last = API.AttemptLine(type: "complete")
            last.firstBad = outcome.firstBad.map(\.rawValue)
            last.lastGood = outcome.lastGood.rawValue
            return last
        }
    }

    // MARK: Streams

    private actor StatBox {
        private(set) var value: API.DiffStat?
        func set(_ stat: API.DiffStat) { value = stat }
    }

    /// Runs an operation to its last line; once its stream has begun, an error is a line as well.
    private func operate(
        _ exchange: Exchange, _ body: @escaping @Sendable (EventStream) async throws -> API.AttemptLine
    ) async throws {
        try await whileConnected(exchange) {
            let stream = EventStream(exchange)
            let last: API.AttemptLine
            do {
                last = try await body(stream)
            } catch {
                guard stream.isOpen, !(error is CancellationError) else { throw error }
                let reply = ErrorReply(error, requestID: exchange.id, logger: logger)
                var line = API.AttemptLine(type: "error")
                line.error = reply.body.message
                line.code = reply.body.error
                try await stream.send([line])
                return try await stream.end()
            }
            try await stream.send([last])
            try await stream.end()
        }
    }

    // MARK: Translation

    private func command(_ line: API.CommandLine, _ body: API.AttemptRequest) throws -> ExecRequest {
        var query = API.ExecQuery()
        query.command = line.arguments
        query.environment = (body.env ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        query.directory = body.dir
        query.user = body.user
        let texts = line.arguments + query.environment + [body.dir ?? "", body.user ?? ""]
        guard texts.allSatisfy({ !$0.utf8.contains(0) }) else {
            throw SpriteError(.invalidRequest, "invalid command: nothing of it may hold a NUL byte")
        }
        return try execRequest(query)
    }

    private func timeout(_ body: API.AttemptRequest) throws -> Duration {
        guard let seconds = body.timeoutSeconds else { return Limits.attemptTimeout }
        guard seconds > 0, seconds <= 7 * 24 * 3600 else {
            throw SpriteError(
                .invalidRequest, "invalid timeout_seconds: it is \(seconds), use a number above 0, up to 604800")
        }
        return .milliseconds(Int64(seconds * 1000))
    }

    private func line(_ output: OutputStream, _ bytes: ByteBuffer) -> API.AttemptLine {
        var line = API.AttemptLine(type: output == .stdout ? "stdout" : "stderr")
        let bytes = Array(bytes.readableBytesView)
        line.dataBase64 = base64IfNotText(bytes)
        if line.dataBase64 == nil { line.data = String(decoding: bytes, as: UTF8.self) }
        return line
    }

    private func line(_ change: TreeChange) -> API.AttemptLine {
        var line = API.AttemptLine(type: "change")
        line.change = wire(change)
        return line
    }

    private func ending(_ type: String, _ status: ExitStatus) -> API.AttemptLine {
        var line = API.AttemptLine(type: type)
        line.exitCode = Int(status.code)
        return line
    }

    private func wire(_ racer: Racer) -> API.Racer {
        var wire = API.Racer(index: racer.index, elapsedMilliseconds: racer.elapsed.milliseconds)
        wire.exitCode = racer.exit.map { Int($0.code) }
        wire.score = racer.score
        wire.problem = racer.problem
        wire.output = String(decoding: racer.output.readableBytesView, as: UTF8.self)
        wire.stat = racer.diff.map(stat)
        wire.changes = racer.diff?.changes.prefix(Limits.attemptChangesMax).map(self.wire)
        return wire
    }
}
