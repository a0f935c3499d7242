// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import NIOPosix
import Sprites

/// Does what the conformance suite asks for, with the Swift library; conformance/README.md has the protocol.
@main
struct Driver {
    static func main() async throws {
        var options = SpritesClient.Options()
        options.certificateAuthorityPath = getenv("SSL_CERT_FILE").map { String(cString: $0) }
        let client = try SpritesClient(
            baseURL: getenv("SPRITES_API_URL").map { String(cString: $0) } ?? "http://127.0.0.1:7780",
            token: getenv("SPRITE_TOKEN").map { String(cString: $0) } ?? "", options: options)
        let things = Things()
        let input = NIOThreadPool(numberOfThreads: 1)
        input.start()
        await withTaskGroup(of: Void.self) { group in
            while let line = try? await input.runIfActive({ readLine(strippingNewline: true) }), !line.isEmpty {
                group.addTask { await answer(line, Verbs(client: client, things: things)) }
            }
            // What still runs is given up.
            group.cancelAll()
        }
        try await client.close()
        try await input.shutdownGracefully()
    }

    private static func answer(_ line: String, _ verbs: Verbs) async {
        let reply: JSONValue
        do {
            let request = try JSONDecoder().decode(Request.self, from: Data(line.utf8))
            do {
                reply = ["id": .int(request.id), "ok": try await verbs.run(request)]
            } catch {
                reply = ["id": .int(request.id), "error": problem(error)]
            }
        } catch {
            struct Name: Decodable {
                var id: Int
            }
            let id = (try? JSONDecoder().decode(Name.self, from: Data(line.utf8)).id) ?? 0
            reply = ["id": .int(id), "error": ["code": "driver", "message": .text("\(error)")]]
        }
        guard let text = try? JSONEncoder().encode(reply) else { return }
        // One write a line, so that lines of several tasks do not mix.
        let bytes = Array(text) + [0x0A]
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            sent += count
        }
    }

    private static func problem(_ error: any Error) -> JSONValue {
        guard let error = error as? SpritesError else {
            return ["code": "driver", "message": .text("\(error)")]
        }
        var told: [String: JSONValue] = [
            "code": .text(error.code.rawValue), "message": .text(error.message),
            "may_be_running": .bool(error.mayBeRunning),
        ]
        told["status"] = error.status.map { .int($0) }
        told["request_id"] = error.requestID.map { .text($0) }
        told["remedy"] = error.remedy.map { .text($0) }
        told["session_id"] = error.sessionID.map { .text($0) }
        told["retry_after"] = error.retryAfter.map { .int(Int($0.components.seconds)) }
        told["path"] = error.path.map { .text($0) }
        told["exit_code"] = (error.result?.exitCode).map { .int(Int($0)) }
        told["stdout"] = (error.result?.stdout).map { .bytes($0) }
        told["stderr"] = (error.result?.stderr).map { .bytes($0) }
        return .object(told)
    }
}

/// What requests made and later ones name.
actor Things {
    private var processes: [String: Running] = [:]
    private var forwards: [String: PortForward] = [:]

    func keep(_ process: Running) -> String {
        let name = "process\(processes.count)"
        processes[name] = process
        return name
    }

    func keep(_ forward: PortForward) -> String {
        let name = "forward\(forwards.count)"
        forwards[name] = forward
        return name
    }

    func process(_ name: String?) throws -> Running {
        guard let found = processes[name ?? ""] else { throw DriverProblem(text: "no process '\(name ?? "")'") }
        return found
    }

    func forward(_ name: String?) throws -> PortForward {
        guard let found = forwards[name ?? ""] else { throw DriverProblem(text: "no forward '\(name ?? "")'") }
        return found
    }
}

struct DriverProblem: Error {
    var text: String
}

/// A command that runs, its two streams taken apart by a task that reads them; one request at a time waits.
actor Running {
    let command: RunningCommand
    private var waiting: [OutputStream: [UInt8]] = [:]
    private var atEnd = false
    private var failure: (any Error)?
    private var changed: CheckedContinuation<Void, Never>?

    init(_ command: RunningCommand) { self.command = command }

    /// Reads to the end; whoever made it awaits this.
    func pump() async {
        do {
            for try await chunk in command.output {
                waiting[chunk.stream, default: []] += chunk.bytes
                wake()
            }
        } catch {
            failure = error
        }
        atEnd = true
        wake()
    }

    private func wake() {
        changed?.resume()
        changed = nil
    }

    /// Waits until `length` finds how much to take, or the end.
    func read(_ stream: OutputStream, until length: @Sendable ([UInt8]) -> Int?) async throws -> [UInt8] {
        while !atEnd, length(waiting[stream] ?? []) == nil {
            await withCheckedContinuation { changed = $0 }
        }
        let all = waiting[stream] ?? []
        if all.isEmpty, let failure { throw failure }
        let count = length(all) ?? all.count
        waiting[stream] = Array(all.dropFirst(count))
        return Array(all.prefix(count))
    }
}
