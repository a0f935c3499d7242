// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

/// What the suite asks for.
struct Verbs: Sendable {
    let client: SpritesClient
    let things: Things

    func run(_ request: Request) async throws -> JSONValue {
        switch request.do.split(separator: ".").first {
        case "files": try await files(request)
        case "checkpoints": try await checkpoints(request)
        case "services", "policy", "secrets": try await services(request)
        case "start", "attach", "write", "close_input", "read", "wait", "signal", "resize", "detach", "sessions",
            "kill":
            try await session(request)
        case "run", "output", "cancel", "stream", "burst", "measure": try await command(request)
        case "exchange", "forward": try await port(request)
        case "diff", "attempt", "logs", "events": try await states(request)
        default: try await sprite(request)
        }
    }

    private func box(_ request: Request) -> Sprite { client.sprite(request.sprite ?? "") }

    private func info(_ info: SpriteInfo?) throws -> JSONValue {
        guard let info else { throw DriverProblem(text: "no description came") }
        return [
            "name": .text(info.name), "status": .text(info.status), "labels": .texts(info.labels),
            "url": .text(info.url),
        ]
    }

    // MARK: Sprites

    private func sprite(_ request: Request) async throws -> JSONValue {
        let box = box(request)
        switch request.do {
        case "create":
            var options = SpriteOptions()
            options.labels = request.labels ?? []
            options.environment = request.environment ?? [:]
            return try info(try await client.create(request.name ?? "", options).info)
        case "get":
            return try info(try await client.get(box.name).info)
        case "list":
            var names: [String] = []
            for try await one in client.list(prefix: request.prefix ?? "", pageSize: request.page_size ?? 50) {
                names.append(one.name)
            }
            return ["names": .texts(names)]
        case "update":
            var update = Sprite.Update()
            update.labels = request.labels
            return try info(try await box.update(update))
        case "destroy":
            try await box.destroy()
        case "fork":
            return try info(try await box.fork(to: request.to ?? "", checkpoint: request.checkpoint).info)
        default:
            throw DriverProblem(text: "there is no verb '\(request.do)'")
        }
        return [:]
    }

    // MARK: Commands

    private func made(_ request: Request) -> Command {
        var options = CommandOptions()
        options.environment = request.environment ?? [:]
        options.directory = request.directory
        options.user = request.user
        options.isDetachable = request.detachable ?? false
        options.terminal = request.tty.map { TerminalSize(rows: $0.rows, columns: $0.cols) }
        options.timeout = request.timeout.map { .milliseconds(Int64($0 * 1000)) }
        if let after = request.kill_after { options.killAfter = .milliseconds(Int64(after * 1000)) }
        return switch request.command {
        case .shell(let text): box(request).command(text, options)
        case .list(let arguments): box(request).command(arguments, options)
        case nil: box(request).command([], options)
        }
    }

    private func command(_ request: Request) async throws -> JSONValue {
        switch request.do {
        case "output":
            return ["text": .text(try await made(request).output(input: request.inputBytes))]
        case "cancel":
            let command = made(request)
            let task = Task { try await command.run() }
            try await Task.sleep(for: .seconds(1))
            task.cancel()
            do {
                _ = try await task.value
                return ["canceled": .bool(false)]
            } catch {
                return ["canceled": .bool(error is CancellationError)]
            }
        case "stream":
            let running = try await made(request).start()
            running.closeInput()
            let digest = try Digest()
            for try await chunk in running.output { digest.add(chunk) }
            let (count, sum) = try digest.finish()
            return [
                "exit_code": .int(Int(try await running.exitCode())), "stdout_bytes": .int(count),
                "stdout_sha256": .text(sum),
            ]
        case "burst":
            return try await burst(request)
        case "measure":
            return try await measure(request)
        default:
            let result = try await made(request).run(
                input: request.inputBytes, outputBytesMax: request.output_limit ?? 256 << 20)
            if request.check == true { _ = try result.checked() }
            let code = JSONValue.int(Int(result.exitCode))
            if request.digest == true { return ["exit_code": code, "stdout_bytes": .int(result.stdout.count)] }
            return ["exit_code": code, "stdout": .bytes(result.stdout), "stderr": .bytes(result.stderr)]
        }
    }

    private func burst(_ request: Request) async throws -> JSONValue {
        let (box, count, width) = (box(request), request.count ?? 0, request.at_once ?? 1)
        let wrong = await withTaskGroup(of: [String].self) { group in
            for first in 0..<width {
                group.addTask {
                    var wrong: [String] = []
                    for number in stride(from: first, to: count, by: width) {
                        let script = "echo out \(number); echo err \(number) >&2; exit \(number % 7)"
                        do {
                            let result = try await box.command(["sh", "-c", script]).run()
                            if result.exitCode != Int32(number % 7) || result.stdoutText != "out \(number)\n"
                                || result.stderrText != "err \(number)\n"
                            {
                                wrong.append("\(number): \(result.exitCode) \(result.stdoutText) \(result.stderrText)")
                            }
                        } catch {
                            wrong.append("\(number): \(error)")
                        }
                    }
                    return wrong
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }
        return ["count": .int(count), "wrong": .texts(Array(wrong.prefix(5)))]
    }

    private func measure(_ request: Request) async throws -> JSONValue {
        let box = box(request)
        var times: [JSONValue] = []
        for _ in 0..<(request.count ?? 1) {
            let started = ContinuousClock.now
            _ = try await box.command(["true"]).run()
            times.append(.number((ContinuousClock.now - started) / .milliseconds(1)))
        }
        let started = ContinuousClock.now
        let running = try await box.command(["head", "-c", "\(request.bytes ?? 1)", "/dev/zero"]).start()
        running.closeInput()
        var count = 0
        for try await chunk in running.output { count += chunk.count }
        _ = try await running.exitCode()
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        return ["times": .list(times), "seconds": .number(seconds), "bytes": .int(count)]
    }

    // MARK: Sessions

    private func begun(_ command: RunningCommand) async -> JSONValue {
        let running = Running(command)
        // Ends with the command's connection, which the client closes at the latest.
        Task { await running.pump() }
        return [
            "session_id": .text(command.sessionID), "tty": .bool(command.isTerminal),
            "process": .text(await things.keep(running)),
        ]
    }

    private func session(_ request: Request) async throws -> JSONValue {
        switch request.do {
        case "start": return await begun(try await made(request).start())
        case "attach": return await begun(try await box(request).attach(request.session_id ?? ""))
        case "sessions": return ["ids": .texts(try await box(request).sessions().map(\.id))]
        case "kill":
            let code = try await box(request).kill(
                request.session_id ?? "", signal: request.signal ?? "TERM", timeout: .seconds(request.timeout ?? 10))
            return ["exit_code": code.map { .int($0) } ?? .null]
        case "read": return try await read(request)
        case "wait": return ["exit_code": .int(Int(try await things.process(request.process).command.exitCode()))]
        default: break
        }
        let command = try await things.process(request.process).command
        switch request.do {
        case "write": try await command.write(Request.bytes(request.data))
        case "close_input": command.closeInput()
        case "signal": try command.signal(request.signal ?? "TERM")
        case "resize": command.resize(TerminalSize(rows: request.rows ?? 24, columns: request.cols ?? 80))
        default: try await command.close()
        }
        return [:]
    }

    private func read(_ request: Request) async throws -> JSONValue {
        let process = try await things.process(request.process)
        let stream: OutputStream = request.stream == "stderr" ? .stderr : .stdout
        if let lines = request.lines {
            var found: [String] = []
            for _ in 0..<lines {
                let line = try await process.read(stream) { bytes in bytes.firstIndex(of: 0x0A).map { $0 + 1 } }
                found.append(String(decoding: line, as: UTF8.self))
            }
            return ["lines": .texts(found)]
        }
        guard request.until != nil else { return ["data": .bytes(try await process.read(stream) { _ in nil })] }
        let mark = Request.bytes(request.until)
        let data = try await process.read(stream) { bytes in
            guard bytes.count >= mark.count else { return nil }
            return (0...(bytes.count - mark.count)).first { bytes[$0..<($0 + mark.count)].elementsEqual(mark) }
                .map { $0 + mark.count }
        }
        return ["data": .bytes(data)]
    }

    // MARK: Ports

    private func port(_ request: Request) async throws -> JSONValue {
        switch request.do {
        case "exchange":
            let connection = try await box(request).connect(port: request.port ?? 0)
            try await connection.write(Request.bytes(request.data))
            var got: [UInt8] = []
            for try await chunk in connection.output { got += chunk.bytes }
            return ["data": .bytes(got)]
        case "forward":
            let forward = try await box(request).forward(localPort: 0, remotePort: request.port ?? 0)
            return ["local_port": .int(forward.localPort), "forward": .text(await things.keep(forward))]
        default:
            let forward = try await things.forward(request.forward)
            forward.close()
            await forward.waitUntilClosed()
            return [:]
        }
    }
}
