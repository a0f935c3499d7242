// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Toolbox {
    /// What one answer holds of a service's output.
    private static let outputBytesMax = 32 << 10

    var serviceTools: [Tool] {
        guard let services = world.services else { return [] }
        let name = spriteParameter + [.text("service", "Name of the service.", required: true, bytesMax: 63)]
        return [
            Tool(
                name: "list_services", title: "List services",
                about: "Lists the commands the sprite keeps running, with their state. Changes nothing.",
                effect: .reads, parameters: spriteParameter
            ) { call in
                let all = try await services.services(try await sprite(call.arguments))
                return ToolResult(["services": .list(all.map(json))])
            },
            createService(services, name),
            verb(services, name, "start", "Starts a service that was stopped. Undo: stop_service.") {
                try await services.start($0, $1)
            },
            verb(
                services, name, "restart", "Stops and starts a service. Cannot be undone; its state in memory is lost."
            ) {
                try await services.restart($0, $1)
            },
            verb(services, name, "stop", "Stops a service until it is started again. Undo: start_service.") {
                try await services.stop($0, $1, timeout: .seconds(10))
            },
            Tool(
                name: "delete_service", title: "Delete a service",
                about: "Stops a service and forgets its definition. Undo: create_service with the same definition.",
                effect: .destroys, parameters: name
            ) { call in
                let service = call.arguments.text("service") ?? ""
                try await services.delete(try await sprite(call.arguments), service)
                return ToolResult(["deleted": service.json])
            },
            Tool(
                name: "service_logs", title: "Show a service's output",
                about: "Shows the last lines a service printed, at most 32 KiB. Changes nothing.", effect: .reads,
                parameters: name + [.number("lines", 1...10_000, 100, "How many lines.")]
            ) { call in
                let events = try await services.logs(
                    try await sprite(call.arguments), call.arguments.text("service") ?? "",
                    lines: call.arguments.number("lines") ?? 100)
                return told(await collect(events, for: .milliseconds(100)))
            },
        ]
    }

    private func createService(_ services: any ServiceControl, _ name: [Parameter]) -> Tool {
        Tool(
            name: "create_service", title: "Create or replace a service",
            about: "Defines a command the sprite keeps running (over crashes, restarts and restores) and starts it; a "
                + "service of that name is replaced. Undo: delete_service.",
            effect: .adds, isIdempotent: true,
            parameters: name + [
                Parameter(
                    name: "command", kind: .texts(countMax: 1000), about: "The program and its arguments.",
                    isRequired: true),
                .text("directory", "Where it runs; the user's home if absent."),
                Parameter(name: "environment", kind: .map, about: "Variables it gets."),
                Parameter(name: "needs", kind: .texts(countMax: 64), about: "Services that must run first."),
                .number("http_port", 1...65535, nil, "The port that requests to the sprite's URL go to."),
            ]
        ) { call in
            let arguments = call.arguments
            let command = arguments.texts("command") ?? []
            guard let program = command.first, !program.isEmpty else { throw ToolFailure("'command' is empty") }
            let service = arguments.text("service") ?? ""
            let allowed = service.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || [0x2D, 0x5F, 0x2E].contains($0)
            }
            guard allowed, service.first != ".", service.first != "-", service != "signal" else {
                throw ToolFailure("a service's name is 1 to 63 letters, digits, '.', '_' and '-'")
            }
            let environment = arguments.map("environment")
            let bytes = (command + environment.flatMap { [$0.key, $0.value] }).reduce(0) { $0 + $1.utf8.count }
            guard bytes <= Limits.environmentBytesMax,
                !environment.keys.contains(where: { $0.isEmpty || $0.contains("=") })
            else {
                throw ToolFailure(
                    "the definition is larger than \(Limits.environmentBytesMax) bytes, or a variable has no name")
            }
            let events = try await services.define(
                try await sprite(arguments),
                ServiceDefinition(
                    name: service, command: program, arguments: Array(command.dropFirst()),
                    needs: arguments.texts("needs") ?? [], httpPort: arguments.number("http_port"),
                    environment: environment, directory: arguments.text("directory")))
            return told(await collect(events, for: .seconds(1)))
        }
    }

    private func verb(
        _ services: any ServiceControl, _ parameters: [Parameter], _ verb: String, _ about: String,
        _ body: @escaping @Sendable (SpriteName, String) async throws -> AsyncStream<ServiceEvent>
    ) -> Tool {
        Tool(
            name: "\(verb)_service", title: "\(verb.prefix(1).uppercased() + verb.dropFirst()) a service", about: about,
            effect: verb == "start" ? .adds : .destroys, isIdempotent: verb != "restart", parameters: parameters
        ) { call in
            let events = try await body(try await sprite(call.arguments), call.arguments.text("service") ?? "")
            return told(await collect(events, for: verb == "stop" ? .seconds(15) : .seconds(1)))
        }
    }

    /// What happens to a service for a while: the output, how it ended, what failed.
    private struct Happening: Sendable {
        var output: [UInt8] = []
        var isCut = false
        var words: [String] = []
    }

    private func collect(_ events: AsyncStream<ServiceEvent>, for time: Duration) async -> Happening {
        await withTaskGroup(of: Happening?.self) { group in
            let box = HappeningBox()
            group.addTask {
                for await event in events where await box.take(event) { break }
                return nil
            }
            group.addTask {
                try? await Task.sleep(for: time)
                return nil
            }
            _ = await group.next()
            group.cancelAll()
            return await box.happening
        }
    }

    private actor HappeningBox {
        var happening = Happening()

        /// True once nothing more is to come.
        func take(_ event: ServiceEvent) -> Bool {
            switch event.kind {
            case .started: happening.words.append("started")
            case .output(_, let text):
                happening.output += text.utf8
                let extra = happening.output.count - Toolbox.outputBytesMax
                if extra > 0 {
                    happening.output.removeFirst(extra)
                    happening.isCut = true
                }
            case .exited(let code): happening.words.append("ended with code \(code)")
            case .failed(let text): happening.words.append("failed: \(text)")
            case .stopping: happening.words.append("stopping")
            case .stopped:
                happening.words.append("stopped")
                return true
            }
            return false
        }
    }

    private func told(_ happening: Happening) -> ToolResult {
        let output = String(decoding: happening.output, as: UTF8.self)
        return ToolResult(
            [
                "events": .list(happening.words.map(\.json)), "output": output.json,
                "earlier_output_left_out": .bool(happening.isCut),
            ])
    }

    private func json(_ view: ServiceView) -> JSON {
        var object: [String: JSON] = [
            "name": view.definition.name.json, "status": view.status.rawValue.json,
            "command": .list(([view.definition.command] + view.definition.arguments).map(\.json)),
            "restart_count": .integer(view.restartCount),
        ]
        if let port = view.definition.httpPort { object["http_port"] = .integer(port) }
        if let error = view.error { object["error"] = error.json }
        return .object(object)
    }
}
