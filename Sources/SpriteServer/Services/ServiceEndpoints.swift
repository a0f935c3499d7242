// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    func serve(_ exchange: Exchange, _ sprite: SpriteName, _ route: ServiceRoute) async throws {
        guard let services = configuration.services else {
            throw SpriteError(.notFound, "services are not served by this server")
        }
        switch (route, exchange.method) {
        case (.list, _):
            try await exchange.send(json: try await services.services(sprite).map(wire))
        case (.one(let name), "GET"):
            try await exchange.send(json: wire(try await services.service(sprite, name)))
        case (.one(let name), "PUT"):
            let definition = try definition(name, try await exchange.requiredBody(API.DefineService.self))
            let duration = try duration(exchange, "duration", "timeout") ?? followDefault
            try await follow(exchange, name, try await services.define(sprite, definition), for: duration)
        case (.one(let name), _):
            try await services.delete(sprite, name)
            try await exchange.send(.noContent)
        case (.start(let name), _):
            let duration = try duration(exchange, "duration") ?? followDefault
            try await follow(exchange, name, try await services.start(sprite, name), for: duration)
        case (.restart(let name), _):
            let duration = try duration(exchange, "duration") ?? followDefault
            try await follow(exchange, name, try await services.restart(sprite, name), for: duration)
        case (.stop(let name), _):
            let timeout = try duration(exchange, "timeout") ?? .seconds(10)
            let events = try await services.stop(sprite, name, timeout: timeout)
            // Killed after the timeout, so it has ended some seconds later, whatever it does.
            try await follow(exchange, name, events, for: timeout + .seconds(5), untilStopped: true)
        case (.logs(let name), _):
            let lines = try exchange.target.query()["lines"].map { text in
                guard let number = Int(text), (0...100_000).contains(number) else {
                    throw SpriteError(
                        .invalidRequest, "invalid query: 'lines' is '\(text.prefix(40))', use a number up to 100000")
                }
                return number
            }
            let events = try await services.logs(sprite, name, lines: lines ?? 100)
            try await follow(exchange, name, events, for: try duration(exchange, "duration") ?? .zero)
        case (.signal, _):
            let body = try await exchange.requiredBody(API.SignalService.self)
            guard let number = API.SignalName.number(body.signal) else {
                throw SpriteError(
                    .invalidRequest, "invalid signal '\(body.signal.prefix(40))': use a name such as TERM")
            }
            try await services.signal(sprite, body.name, number)
            try await exchange.send(.noContent)
        }
    }

    private func duration(_ exchange: Exchange, _ spellings: String...) throws -> Duration? {
        let query = try exchange.target.query()
        guard let (name, text) = spellings.lazy.compactMap({ name in query[name].map { (name, $0) } }).first,
            !text.isEmpty
        else { return nil }
        guard let duration = API.DurationText.parse(text), duration <= .seconds(3600) else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: '\(name)' is '\(text.prefix(40))', use a duration such as 5s, at most 1h")
        }
        return duration
    }

    private func definition(_ name: String, _ body: API.DefineService) throws -> ServiceDefinition {
        let allowed = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                || $0 == 0x2D || $0 == 0x5F || $0 == 0x2E
        }
        guard (1...63).contains(name.utf8.count), allowed, name.first != ".", name.first != "-" else {
            throw SpriteError(
                .invalidRequest, "invalid service name: use 1 to 63 letters, digits, '.', '_' and '-'")
        }
        guard !body.cmd.isEmpty else {
            throw SpriteError(.invalidRequest, "cannot define service '\(name)': 'cmd' is missing")
        }
        if let port = body.httpPort, !(1...65535).contains(port) {
            throw SpriteError(.invalidRequest, "cannot define service '\(name)': http_port is \(port), use 1 to 65535")
        }
        let texts = [body.cmd] + body.args + body.needs + body.env.flatMap { [$0.key, $0.value] } + [body.dir ?? ""]
        let bytes = texts.reduce(0) { $0 + $1.utf8.count }
        guard bytes <= Limits.environmentBytesMax, !texts.contains(where: { $0.utf8.contains(0) }) else {
            throw SpriteError(
                .invalidRequest,
                "cannot define service '\(name)': it has \(bytes) bytes, the limit is \(Limits.environmentBytesMax), "
                    + "and no text may hold a NUL byte")
        }
        guard !body.env.keys.contains(where: { $0.isEmpty || $0.contains("=") }) else {
            throw SpriteError(
                .invalidRequest, "cannot define service '\(name)': a name in 'env' is empty or holds '='")
        }
        return ServiceDefinition(
            name: name, command: body.cmd, arguments: body.args, needs: body.needs, httpPort: body.httpPort,
            environment: body.env, directory: body.dir.flatMap { $0.isEmpty ? nil : $0 })
    }

    /// Sends what happens for a while, and always a `complete` at the end: clients read the stream to its end.
    private func follow(
        _ exchange: Exchange, _ name: String, _ events: AsyncStream<ServiceEvent>, for duration: Duration,
        untilStopped: Bool = false
    ) async throws {
        let stream = EventStream(exchange)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await event in events {
                    try await stream.send(lines(event))
                    if case .stopped = event.kind, untilStopped { return }
                }
            }
            group.addTask {
                // Nothing to wait for still gives what is kept already a moment to go out.
                try await Task.sleep(for: max(duration, .milliseconds(50)))
            }
            try await group.next()
            group.cancelAll()
            do { try await group.waitForAll() } catch is CancellationError {}
        }
        var last = API.ServiceStreamEvent(type: "complete", timestamp: milliseconds(.now()))
        last.logFiles = ["combined": "/.sprite/logs/services/\(name).log"]
        try await stream.send([last])
        try await stream.end()
    }

    private func lines(_ event: ServiceEvent) -> [API.ServiceStreamEvent] {
        func line(_ type: String, _ data: String? = nil, _ code: UInt8? = nil) -> API.ServiceStreamEvent {
            var line = API.ServiceStreamEvent(type: type, timestamp: milliseconds(event.time))
            line.data = data
            line.exitCode = code.map(Int.init)
            return line
        }
        switch event.kind {
        case .started: return [line("started")]
        case .output(let stream, let text):
            // One client's line scanner stops at 64 KiB, and escaping can make a byte six.
            return pieces(text, 8 << 10).map { line(stream == .stdout ? "stdout" : "stderr", $0) }
        case .exited(let code): return [line("exit", nil, code)]
        case .failed(let message): return [line("error", message)]
        case .stopping: return [line("stopping")]
        case .stopped(let code): return [line("stopped", nil, code)]
        }
    }

    private func pieces(_ text: String, _ size: Int) -> [String] {
        guard text.utf8.count > size else { return [text] }
        var pieces: [String] = []
        var current = ""
        for character in text.unicodeScalars {
            current.unicodeScalars.append(character)
            if current.utf8.count >= size {
                pieces.append(current)
                current = ""
            }
        }
        if !current.isEmpty { pieces.append(current) }
        return pieces
    }

    private func milliseconds(_ time: Timestamp) -> Int64 { time.nanoseconds / 1_000_000 }

    private func wire(_ view: ServiceView) -> API.Service {
        let definition = view.definition
        var state = API.ServiceState(
            name: definition.name, status: view.status.rawValue, restartCount: view.restartCount)
        state.startedAt = view.startedAt?.text
        state.nextRestartAt = view.nextRestartAt?.text
        state.error = view.error
        var service = API.Service(
            name: definition.name, cmd: definition.command, args: definition.arguments, needs: definition.needs,
            state: state)
        service.httpPort = definition.httpPort
        service.env = definition.environment
        service.dir = definition.directory
        return service
    }
}

/// How long the answer to a start follows the service, unless the request says otherwise.
private let followDefault: Duration = .seconds(5)
