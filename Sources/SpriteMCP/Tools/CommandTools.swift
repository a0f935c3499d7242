// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain

extension Toolbox {
    private static let outputBytes = 16 << 10
    private static let outputBytesMax = 64 << 10

    var commandTools: [Tool] {
        let id = Parameter.text("exec_id", "exec_id of an exec call.", required: true, bytesMax: 40)
        let limit = Parameter.number(
            "limit", 1...Toolbox.outputBytesMax, Toolbox.outputBytes, "Bytes of output at most.")
        return [
            Tool(
                name: "exec", title: "Run a command",
                about: "Runs a command in the sprite (which wakes) as user sprite, with sudo without a password, and "
                    + "answers with its output and exit code. If it still runs after wait_seconds, it goes on: see "
                    + "exec_output and exec_kill. Undo: restore_checkpoint of a checkpoint made before.",
                effect: .destroys,
                parameters: spriteParameter + [
                    .text("command", "A line for /bin/sh.", required: true, bytesMax: 256 << 10),
                    .text("directory", "Where it runs; /home/sprite if absent."),
                    Parameter(name: "environment", kind: .map, about: "Variables it gets in addition."),
                    .text("input", "Its standard input; none if absent.", bytesMax: 512 << 10),
                    .number("wait_seconds", 0...600, 30, "How long to wait for its end."), limit,
                ]
            ) { call in
                let arguments = call.arguments
                let name = try await sprite(arguments)
                var request = ExecRequest(
                    arguments: ["/bin/sh", "-c", arguments.text("command") ?? ""],
                    directory: arguments.text("directory"), takesInput: arguments.text("input") != nil,
                    maxRunAfterDisconnect: .seconds(3600))
                request.environment = arguments.map("environment").map { ($0.key, $0.value) }
                let session = try await world.control.exec(name, request)
                let (id, run) = try await runs.add(name, session)
                if let input = arguments.text("input") {
                    try await session.writeInput(.init(string: input))
                    session.closeInput()
                }
                do {
                    try await run.wait(
                        for: .seconds(arguments.number("wait_seconds") ?? 30), call.progress)
                } catch {
                    // Cancelled: nobody will ask for the rest.
                    session.signal(9)
                    throw error
                }
                return answer(run, id, from: 0, limit: arguments.number("limit") ?? Toolbox.outputBytes)
            },
            Tool(
                name: "exec_output", title: "Read more of a command's output",
                about:
                    "Reads what a command printed, from a cursor on; waits for its end if told to. The last MiB is kept. "
                    + "Changes nothing.",
                effect: .reads,
                parameters: spriteParameter + [
                    id, .number("cursor", 0...Int.max, 0, "next_cursor of the call before."),
                    .number("wait_seconds", 0...600, 0, "How long to wait for its end."), limit,
                ]
            ) { call in
                let arguments = call.arguments
                let id = arguments.text("exec_id") ?? ""
                let run = try await runs.run(id, of: try await sprite(arguments))
                try await run.wait(for: .seconds(arguments.number("wait_seconds") ?? 0), call.progress)
                return answer(
                    run, id, from: arguments.number("cursor") ?? 0,
                    limit: arguments.number("limit") ?? Toolbox.outputBytes)
            },
            Tool(
                name: "exec_kill", title: "End a command",
                about: "Kills a command that runs, with what it started in its process group. Cannot be undone.",
                effect: .destroys, isIdempotent: true, parameters: spriteParameter + [id]
            ) { call in
                let id = call.arguments.text("exec_id") ?? ""
                let run = try await runs.run(id, of: try await sprite(call.arguments))
                run.session.signal(9)
                try await run.wait(for: .seconds(5)) { _ in }
                return answer(run, id, from: run.printed, limit: 1)
            },
        ]
    }

    private func answer(_ run: CommandRun, _ id: String, from cursor: Int, limit: Int) -> ToolResult {
        let output = run.output(from: cursor, limit: limit)
        let text = String(decoding: output.bytes, as: UTF8.self)
        var object: [String: JSON] = [
            "exec_id": id.json, "output": text.json, "running": .bool(!output.isOver),
        ]
        if let status = output.status { object["exit_code"] = .integer(Int(status.code)) }
        if output.skipped > 0 { object["bytes_forgotten"] = .integer(output.skipped) }
        let isMore = output.next < run.printed || !output.isOver
        if isMore { object["next_cursor"] = .integer(output.next) }
        return ToolResult(.object(object))
    }
}
