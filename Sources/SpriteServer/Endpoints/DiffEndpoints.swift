// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// What the operations on states need; absent only where this part is used without them.
    func stateControl() throws -> any StateControl {
        guard let states = configuration.states else {
            throw SpriteError(.notFound, "this server does not compare states")
        }
        return states
    }

    /// Differences as NDJSON, one a line, sorted by path; the last line counts them.
    func diff(_ exchange: Exchange, _ name: SpriteName) async throws {
        let states = try stateControl()
        let query = try exchange.target.query()
        let from = try stateReference(query["from"], of: name)
        let to = try stateReference(query["to"] ?? "current", of: name)
        var options = TreeDiffOptions(
            path: try query["path"].flatMap { $0.isEmpty ? nil : Array(try insidePath($0).utf8) },
            makesPatches: try flag(query, "patch", false), findsRenames: try flag(query, "renames", true))
        if options.path == [0x2F] { options.path = nil }
        let limit = try count(query["limit"], "limit", 0...Limits.diffEntriesMax) ?? Limits.diffEntriesMax
        let wanted = options
        try await whileConnected(exchange) {
            let start = ContinuousClock.now
            let diff = try await states.diff(name, from: from, to: to, options: wanted)
            let elapsed = (ContinuousClock.now - start).milliseconds
            let stream = EventStream(exchange)
            for begin in stride(from: 0, to: min(limit, diff.changes.count), by: Self.linesAtOnce) {
                let end = min(begin + Self.linesAtOnce, limit, diff.changes.count)
                try await stream.send(
                    diff.changes[begin..<end].map { change in
                        var line = API.DiffLine(type: "change")
                        line.change = wire(change)
                        return line
                    })
            }
            var last = API.DiffLine(type: "complete")
            last.from = diff.from.description
            last.to = diff.to.description
            last.stat = stat(diff)
            last.truncated = diff.changes.count > limit
            last.elapsedMilliseconds = elapsed
            try await stream.send([last])
            try await stream.end()
        }
    }

    private static let linesAtOnce = 256

    /// Runs an operation that ends when its client goes. The connection takes no request afterwards, since reading from
    /// it is how the going is noticed.
    func whileConnected(_ exchange: Exchange, _ body: @escaping @Sendable () async throws -> Void) async throws {
        exchange.closeAfterwards()
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                await exchange.parts.discardAll()
                return false
            }
            group.addTask {
                try await body()
                return true
            }
            defer { group.cancelAll() }
            guard try await group.next() == true else { throw ChannelError.inputClosed }
        }
    }

    // MARK: Parameters

    func stateReference(_ text: String?, of name: SpriteName) throws -> StateReference {
        guard let text, !text.isEmpty else {
            throw SpriteError(
                .invalidRequest, "invalid query: 'from' is missing; give a checkpoint such as v3, or 'current'")
        }
        return text.lowercased() == "current" ? .live : .checkpoint(try checkpointID(text, of: name))
    }

    /// An absolute path without `.`, `..` and empty parts.
    func insidePath(_ text: String) throws -> String {
        let parts = text.split(separator: "/")
        guard text.hasPrefix("/"), text.utf8.count <= FilePath.bytesMax, !parts.contains("."), !parts.contains(".."),
            parts.allSatisfy({ $0.utf8.count <= 255 })
        else {
            throw SpriteError(
                .invalidRequest,
                "invalid path '\(text.prefix(200))': give an absolute one of at most \(FilePath.bytesMax) bytes without "
                    + "'.' and '..'")
        }
        return "/" + parts.joined(separator: "/")
    }

    private func flag(_ query: API.Query, _ name: String, _ value: Bool) throws -> Bool {
        switch query[name]?.lowercased() {
        case nil, "": return value
        case "true", "1": return true
        case "false", "0": return false
        case .some(let text):
            throw SpriteError(
                .invalidRequest, "invalid query: '\(name)' is '\(text.prefix(40))', use true or false")
        }
    }

    private func count(_ text: String?, _ name: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let text, !text.isEmpty else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: '\(name)' is '\(text.prefix(40))', use a number from \(range.lowerBound) to "
                    + "\(range.upperBound)")
        }
        return number
    }

    // MARK: Translation

    func wire(_ change: TreeChange) -> API.TreeChange {
        var wire = API.TreeChange(change: change.kind.rawValue, path: String(decoding: change.path, as: UTF8.self))
        wire.pathBase64 = base64IfNotText(change.path)
        if let previous = change.previousPath {
            wire.fromPath = String(decoding: previous, as: UTF8.self)
            wire.fromPathBase64 = base64IfNotText(previous)
        }
        wire.fields = change.fields.isEmpty ? nil : change.fields.map(\.rawValue)
        wire.old = change.before.map(self.wire)
        wire.new = change.after.map(self.wire)
        wire.patch = change.patch
        wire.patchOmitted = change.patchOmitted
        return wire
    }

    private func wire(_ entry: TreeEntry) -> API.TreeEntry {
        let digits = String(entry.mode, radix: 8)
        return API.TreeEntry(
            type: entry.kind.rawValue, mode: String(repeating: "0", count: max(0, 4 - digits.count)) + digits,
            uid: entry.user, gid: entry.group, size: entry.size)
    }

    func stat(_ diff: TreeDiff) -> API.DiffStat {
        var stat = API.DiffStat()
        for change in diff.changes {
            switch change.kind {
            case .added: stat.added += 1
            case .removed: stat.removed += 1
            case .changed: stat.changed += 1
            case .renamed: stat.renamed += 1
            }
            stat.bytes += Int64(clamping: change.after?.size ?? 0) - Int64(clamping: change.before?.size ?? 0)
        }
        return stat
    }
}

func base64IfNotText(_ bytes: [UInt8]) -> String? {
    String(validating: bytes, as: UTF8.self) == nil ? Data(bytes).base64EncodedString() : nil
}
