// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import NIOHTTP1
import SpriteAPI

/// What to compare, and how to tell it.
public struct DiffOptions: Sendable {
    /// The older state: a checkpoint, or `current`.
    public var from: String
    /// The newer state.
    public var to = "current"
    /// Only what is at this absolute path or below it.
    public var path: String?
    /// Whether differing texts come with a patch.
    public var patch = false
    /// Whether what was renamed is told as such.
    public var renames = true
    /// At most so many differences; all are counted.
    public var limit: Int?

    /// Compares a checkpoint with the live state.
    public init(from: String) { self.from = from }
}

/// How many differences there are.
public struct DiffSummary: Sendable {
    /// By kind.
    public var stat: API.DiffStat
    /// Whether the limit left some out.
    public var isTruncated: Bool
    /// How long the server took; nil if it does not say.
    public var elapsed: Duration?
}

/// Called for each line of a try, race or bisection.
public typealias AttemptHandler = @Sendable (API.AttemptLine) async throws -> Void

extension Sprite {
    /// Tells what differs between two states, sorted by path.
    ///
    /// - Throws: ``SpritesError``: `.tooLarge` if it is more than the server can tell, `.limitReached` while it is busy.
    @discardableResult
    public func diff(
        _ options: DiffOptions, onChange: @Sendable (API.TreeChange) async throws -> Void
    ) async throws -> DiffSummary {
        var query = API.Query()
        query.items.append(.init("from", options.from))
        query.items.append(.init("to", options.to))
        if let path = options.path { query.items.append(.init("path", path)) }
        if options.patch { query.items.append(.init("patch", "true")) }
        if !options.renames { query.items.append(.init("renames", "false")) }
        if let limit = options.limit { query.items.append(.init("limit", "\(limit)")) }
        var last: API.DiffLine?
        try await http.lines(
            .GET, path + "/diff?" + query.encoded, body: nil, timeout: client.options.operationTimeout
        ) { bytes in
            let line = try http.decoded(bytes, as: API.DiffLine.self)
            if let change = line.change { try await onChange(change) }
            last = line
        }
        guard last?.type == "complete", let stat = last?.stat else {
            throw failure(last?.type, last?.code, last?.error)
        }
        return DiffSummary(
            stat: stat, isTruncated: last?.truncated ?? false,
            elapsed: last?.elapsedMilliseconds.map { .microseconds(Int64($0 * 1000)) })
    }

    /// Brings one path back from a checkpoint, in one step, while everything goes on.
    ///
    /// The state before is kept; ``undoRestore(onProgress:)`` brings back what was there.
    @discardableResult
    public func restore(
        _ id: String, path inside: String, onProgress: ProgressHandler? = nil
    ) async throws -> Restored {
        var restored = Restored()
        let query = "?path=" + API.PercentCoding.encode(inside)
        try await operation(path + "/checkpoints/\(API.PercentCoding.encode(id))/restore" + query, nil) { event in
            restored.id = event.checkpointID ?? restored.id
            restored.replacedID = event.replacedID ?? restored.replacedID
            await onProgress?(event)
        }
        return restored
    }

    /// Makes sure that nothing removes a checkpoint without being told to, or ends that.
    @discardableResult
    public func pinCheckpoint(_ id: String, _ isPinned: Bool = true) async throws -> Checkpoint {
        let answer = try await http.send(
            isPinned ? .POST : .DELETE, path + "/checkpoints/\(API.PercentCoding.encode(id))/pin",
            timeout: requestTimeout)
        return try http.decoded(answer.body, as: Checkpoint.self)
    }

    /// When checkpoints are made without anybody asking.
    public func checkpointsPolicy() async throws -> API.CheckpointsPolicy {
        try await http.get(path + "/policy/checkpoints", as: API.CheckpointsPolicy.self, timeout: requestTimeout)
    }

    /// Sets when checkpoints are made without anybody asking.
    public func setCheckpointsPolicy(_ policy: API.CheckpointsPolicy) async throws {
        _ = try await http.send(
            .POST, path + "/policy/checkpoints", body: try http.encoded(policy), timeout: requestTimeout)
    }

    /// Runs a command, keeps what it did if it succeeds, and rolls the disk back if it does not.
    ///
    /// - Returns: The last line, whose `outcome` says which it was.
    public func attempt(_ request: API.AttemptRequest, onLine: AttemptHandler) async throws -> API.AttemptLine {
        try await attempt("try", request, onLine)
    }

    /// Runs a command in several forks and ranks them.
    public func race(_ request: API.AttemptRequest, onLine: AttemptHandler) async throws -> API.AttemptLine {
        try await attempt("race", request, onLine)
    }

    /// Finds the checkpoint from which on a command fails.
    public func bisect(_ request: API.AttemptRequest, onLine: AttemptHandler) async throws -> API.AttemptLine {
        try await attempt("bisect", request, onLine)
    }

    private func attempt(
        _ operation: String, _ request: API.AttemptRequest, _ onLine: AttemptHandler
    ) async throws -> API.AttemptLine {
        var last: API.AttemptLine?
        try await http.lines(
            .POST, "\(path)/\(operation)", body: try http.encoded(request), timeout: .seconds(8 * 24 * 3600)
        ) { bytes in
            let line = try http.decoded(bytes, as: API.AttemptLine.self)
            if line.type != "complete", line.type != "error" { try await onLine(line) }
            last = line
        }
        guard let last, last.type == "complete" else { throw failure(last?.type, last?.code, last?.error) }
        return last
    }

    private func failure(_ type: String?, _ code: String?, _ message: String?) -> SpritesError {
        guard type == "error" else {
            return SpritesError(
                .connectionLost, "the connection to \(http.address.text) was lost: it ended too early")
        }
        return SpritesError(.init(rawValue: code ?? "internal"), message ?? "the operation failed")
    }
}

extension API.AttemptLine {
    /// What a `stdout` or `stderr` line holds.
    public var outputBytes: [UInt8] {
        if let dataBase64 { return Data(base64Encoded: dataBase64).map(Array.init) ?? [] }
        return Array((data ?? "").utf8)
    }
}
