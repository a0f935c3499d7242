// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Sprites

extension Verbs {
    func states(_ request: Request) async throws -> JSONValue {
        switch request.do {
        case "diff": try await diff(request)
        case "attempt": try await attempt(request)
        default: try await records(request)
        }
    }

    private func changes(_ found: [API.TreeChange]) -> JSONValue { .texts(found.map { "\($0.change) \($0.path)" }) }

    private func stat(_ stat: API.DiffStat?) -> JSONValue {
        guard let stat else { return .null }
        return [
            "added": .int(stat.added), "removed": .int(stat.removed), "changed": .int(stat.changed),
            "renamed": .int(stat.renamed), "bytes": .int(Int(stat.bytes)),
        ]
    }

    private func diff(_ request: Request) async throws -> JSONValue {
        var options = DiffOptions(from: request.from ?? "")
        options.to = request.to ?? options.to
        options.path = request.path
        options.patch = request.patch ?? false
        options.renames = request.renames ?? true
        options.limit = request.limit
        let found = Collected<API.TreeChange>()
        let summary = try await client.sprite(request.sprite ?? "").diff(options) { await found.add($0) }
        let all = await found.all
        return [
            "changes": changes(all), "stat": stat(summary.stat), "truncated": .bool(summary.isTruncated),
            "patch": .text(all.compactMap(\.patch).joined()),
        ]
    }

    private func attempt(_ request: Request) async throws -> JSONValue {
        let arguments =
            switch request.command {
            case .shell(let text): ["sh", "-c", text]
            case .list(let list): list
            case nil: [String]()
            }
        var asked = API.AttemptRequest(command: API.CommandLine(arguments))
        asked.env = request.environment
        asked.dir = request.directory
        asked.user = request.user
        asked.timeoutSeconds = request.timeout
        asked.check = request.checked.map { API.CommandLine(["sh", "-c", $0]) }
        asked.dryRun = request.dry_run
        let lines = Collected<API.AttemptLine>()
        let last = try await client.sprite(request.sprite ?? "").attempt(asked) { await lines.add($0) }
        let all = await lines.all
        return [
            "outcome": .text(last.outcome ?? ""), "kept": .bool(last.outcome == "kept"),
            "exit_code": last.exitCode.map { .int($0) } ?? .null,
            "check_exit_code": last.checkExitCode.map { .int($0) } ?? .null,
            "stdout": .bytes(all.filter { $0.type == "stdout" }.flatMap(\.outputBytes)),
            "stderr": .bytes(all.filter { $0.type == "stderr" }.flatMap(\.outputBytes)),
            "changes": changes(all.compactMap(\.change)), "stat": stat(last.stat),
            "checkpoint_id": last.checkpointID.map { .text($0) } ?? .null,
            "replaced_id": last.replacedID.map { .text($0) } ?? .null, "types": .texts(all.map(\.type)),
        ]
    }

    /// Records of the journal, or of what became of the sprite, until as many matched as were asked for.
    private func records(_ request: Request) async throws -> JSONValue {
        struct Enough: Error {}
        let sprite = client.sprite(request.sprite ?? "")
        let isFollowing = if case .flag(true) = request.follow { true } else { false }
        let (match, wanted) = (request.match ?? "", request.count ?? 1)
        var count = 0
        let onRecord = { (record: API.LogRecord) in
            let text = String(decoding: try JSONEncoder().encode(record), as: UTF8.self)
            if text.contains(match) { count += 1 }
            if count >= wanted { throw Enough() }
        }
        do {
            if request.do == "events" {
                try await sprite.events(request.filters ?? [:], follow: isFollowing, onRecord: onRecord)
            } else {
                try await sprite.logs(request.filters ?? [:], follow: isFollowing, onRecord: onRecord)
            }
        } catch is Enough {}
        return ["count": .int(count)]
    }
}

/// Values that a handler collects.
private actor Collected<Value: Sendable> {
    private(set) var all: [Value] = []
    func add(_ value: Value) { all.append(value) }
}
