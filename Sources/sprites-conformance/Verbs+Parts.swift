// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Sprites

extension Verbs {
    func files(_ request: Request) async throws -> JSONValue {
        let files = client.sprite(request.sprite ?? "").files
        let path = request.path ?? ""
        let mode = request.mode.flatMap { Int($0, radix: 8) }
        switch request.do {
        case "files.read": return ["data": .bytes(try await files.read(path))]
        case "files.write": try await files.write(path, Request.bytes(request.data), mode: mode)
        case "files.list": return ["entries": .list(try await files.list(path).map(entry))]
        case "files.stat": return entry(try await files.stat(path))
        case "files.exists": return ["exists": .bool(try await files.exists(path))]
        case "files.mkdir": try await files.makeDirectory(path)
        case "files.remove": try await files.remove(path, recursive: request.recursive ?? false)
        case "files.rename": try await files.rename(path, to: request.to ?? "")
        case "files.copy": try await files.copy(path, to: request.to ?? "")
        case "files.upload": try await files.upload(request.local ?? "", to: path)
        case "files.download": try await files.download(path, to: request.local ?? "")
        case "files.chmod": try await files.changeMode(path, mode ?? 0)
        default: throw DriverProblem(text: "there is no verb '\(request.do)'")
        }
        return [:]
    }

    private func entry(_ entry: FileEntry) -> JSONValue {
        [
            "name": .text(entry.name), "path": .text(entry.path), "type": .text(entry.type),
            "size": .int(Int(entry.size)),
            "mode": .text(entry.mode),
        ]
    }

    func checkpoints(_ request: Request) async throws -> JSONValue {
        let sprite = client.sprite(request.sprite ?? "")
        let id = request.checkpoint ?? ""
        switch request.do {
        case "checkpoints.create":
            let created = try await sprite.createCheckpoint(comment: request.comment)
            return checkpoint(try await sprite.checkpoint(created.id))
        case "checkpoints.list": return ["ids": .texts(try await sprite.checkpoints().map(\.id))]
        case "checkpoints.get": return checkpoint(try await sprite.checkpoint(id))
        case "checkpoints.delete": try await sprite.deleteCheckpoint(id)
        case "checkpoints.restore": return restored(try await sprite.restore(id))
        case "checkpoints.undo": return restored(try await sprite.undoRestore())
        default: throw DriverProblem(text: "there is no verb '\(request.do)'")
        }
        return [:]
    }

    private func checkpoint(_ one: Checkpoint) -> JSONValue {
        [
            "id": .text(one.id), "comment": .text(one.comment ?? ""),
            "source_id": one.sourceID.map { .text($0) } ?? .null, "is_auto": .bool(one.isAutomatic ?? false),
        ]
    }

    private func restored(_ one: Restored) -> JSONValue {
        ["id": one.id.map { .text($0) } ?? .null, "replaced_id": one.replacedID.map { .text($0) } ?? .null]
    }

    func services(_ request: Request) async throws -> JSONValue {
        let sprite = client.sprite(request.sprite ?? "")
        let (services, name) = (sprite.services, request.name ?? "")
        let follow: Duration =
            if case .seconds(let seconds) = request.follow { .milliseconds(Int64(seconds * 1000)) } else { .zero }
        switch request.do {
        case "services.create":
            var options = ServiceOptions()
            options.arguments = request.args ?? []
            options.needs = request.needs ?? []
            options.httpPort = request.http_port
            options.environment = request.environment ?? [:]
            options.directory = request.directory
            return events(try await services.create(name, request.cmd ?? "", options, follow: follow))
        case "services.list": return ["names": .texts(try await services.list().map(\.name))]
        case "services.get":
            let one = try await services.get(name)
            return [
                "name": .text(one.name), "cmd": .text(one.cmd), "args": .texts(one.args),
                "status": .text(one.state.status), "http_port": one.httpPort.map { .int($0) } ?? .null,
            ]
        case "services.start": return events(try await services.start(name))
        case "services.stop": return events(try await services.stop(name))
        case "services.restart": return events(try await services.restart(name))
        case "services.signal": try await services.signal(name, request.signal ?? "")
        case "services.delete": try await services.delete(name)
        case "services.logs": return events(try await services.logs(name, follow: follow))
        case "policy.get":
            let rules = try await sprite.networkPolicy().rules.map { rule -> JSONValue in
                var fields: [String: JSONValue] = [:]
                fields["domain"] = rule.domain.map { .text($0) }
                fields["action"] = rule.action.map { .text($0) }
                fields["include"] = rule.include.map { .text($0) }
                return .object(fields)
            }
            return ["rules": .list(rules)]
        case "policy.set": try await sprite.setNetworkPolicy(NetworkPolicy(rules: request.rules ?? []))
        case "secrets.list":
            let secrets = try await sprite.secrets().map { one -> JSONValue in
                [
                    "id": .text(one.id), "host": .text(one.host), "header": .text(one.header),
                    "format": .text(one.format),
                ]
            }
            return ["secrets": .list(secrets)]
        case "secrets.set":
            try await sprite.setSecret(
                name, host: request.host ?? "", value: request.value ?? "", header: request.header,
                format: request.format)
        case "secrets.remove": try await sprite.removeSecret(name)
        default: throw DriverProblem(text: "there is no verb '\(request.do)'")
        }
        return [:]
    }

    private func events(_ events: [ServiceEvent]) -> JSONValue {
        ["types": .texts(events.map(\.type)), "text": .text(events.compactMap(\.data).joined())]
    }
}

/// The size and digest of a stream; sha256sum computes it, since a debug build of our own would take minutes.
final class Digest {
    private let pipe: UnsafeMutablePointer<FILE>
    private let path: String
    private var count = 0

    init() throws {
        var name = Array("/tmp/sprites-digest-XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw DriverProblem(text: "mkstemp failed: \(errno)") }
        Glibc.close(descriptor)
        path = String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard let opened = popen("sha256sum > '\(path)'", "w") else { throw DriverProblem(text: "popen failed") }
        pipe = opened
    }

    func add(_ chunk: OutputChunk) {
        count += chunk.count
        chunk.withUnsafeBytes { _ = fwrite($0.baseAddress, 1, $0.count, pipe) }
    }

    func finish() throws -> (Int, String) {
        defer { unlink(path) }
        guard pclose(pipe) == 0, let file = fopen(path, "r") else { throw DriverProblem(text: "sha256sum failed") }
        defer { fclose(file) }
        var sum = [UInt8](repeating: 0, count: 64)
        guard fread(&sum, 1, 64, file) == 64 else { throw DriverProblem(text: "sha256sum said nothing") }
        return (count, String(decoding: sum, as: UTF8.self))
    }
}
