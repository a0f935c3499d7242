// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    func createCheckpoint(_ exchange: Exchange, _ name: SpriteName) async throws {
        let body = try await exchange.body(API.CreateCheckpoint.self)
        let comment = body?.comment.flatMap { $0.isEmpty ? nil : $0 }
        if let comment, comment.utf8.count > Limits.commentBytesMax {
            throw SpriteError(
                .invalidRequest,
                "invalid comment: it is \(comment.utf8.count) bytes, the limit is \(Limits.commentBytesMax)")
        }
        let stream = OperationStream(exchange, opening: "Creating checkpoint...")
        try await stream.run(
            { progress in
                let checkpoint = try await control.checkpoint(name, comment: comment, progress: progress)
                return Self.lines(for: checkpoint)
            }, requestID: exchange.id, service: self)
    }

    /// One client digs the new id out of the text, in either of these two wordings.
    private static func lines(for checkpoint: Checkpoint) -> [API.StreamEvent] {
        let flush = checkpoint.flush.milliseconds
        let snapshot = checkpoint.snapshot.milliseconds
        var last = OperationStream.event("complete", "Checkpoint \(checkpoint.id) created")
        last.checkpointID = checkpoint.id.rawValue
        last.flushMilliseconds = flush
        last.snapshotMilliseconds = snapshot
        return [
            OperationStream.event("info", "  ID: \(checkpoint.id)"),
            OperationStream.event("info", "  Took: flush \(flush) ms, snapshot \(snapshot) ms"), last,
        ]
    }

    func listCheckpoints(_ exchange: Exchange, _ name: SpriteName) async throws {
        let query = try exchange.target.query()
        let showsAutomatic = ["true", "1"].contains(query["includeAuto"] ?? query["include_auto"] ?? "")
        let ancestor = query["history"].flatMap { $0.isEmpty ? nil : $0 }
        guard let ancestor else {
            let checkpoints = try await control.checkpoints(name, includeAutomatic: showsAutomatic)
            try await exchange.send(json: checkpoints.map(wire))
            return
        }
        // Automatic checkpoints may lie between two of the user's.
        let all = try await control.checkpoints(name, includeAutomatic: true)
        let lineage = Lineage(all)
        let descendants = all.filter {
            (showsAutomatic || !$0.id.isAutomatic) && lineage.ancestors(of: $0.id).contains { $0.rawValue == ancestor }
        }
        try await exchange.send(json: descendants.map(wire))
    }

    func getCheckpoint(_ exchange: Exchange, _ name: SpriteName, _ text: String) async throws {
        let id = try checkpointID(text, of: name)
        var found = wire(try await control.checkpoint(name, id))
        let lineage = Lineage(try await control.checkpoints(name, includeAutomatic: true))
        found.history = lineage.ancestors(of: id).map(\.rawValue)
        try await exchange.send(json: found)
    }

    func deleteCheckpoint(_ exchange: Exchange, _ name: SpriteName, _ text: String) async throws {
        if text == "Current" {
            _ = try await control.get(name)
            throw SpriteError(.conflict, "cannot delete checkpoint 'Current': it is the live state")
        }
        try await control.deleteCheckpoint(name, try checkpointID(text, of: name))
        try await exchange.send(.noContent)
    }

    func restore(_ exchange: Exchange, _ name: SpriteName, _ text: String) async throws {
        // Before the stream begins, so that what is not there gets a 404.
        let id = try await control.checkpoint(name, try checkpointID(text, of: name)).id
        if let path = try exchange.target.query()["path"], !path.isEmpty {
            return try await restorePath(exchange, name, id, try insidePath(path))
        }
        let stream = OperationStream(exchange, opening: "Restoring checkpoint \(id)...")
        try await stream.run(
            { progress in
                let replaced = try await control.restore(name, id, progress: progress)
                var last = OperationStream.event("complete", "Restored from \(id)")
                last.checkpointID = id.rawValue
                last.replacedID = replaced.rawValue
                return [OperationStream.event("info", "  The replaced state is kept as \(replaced)"), last]
            }, requestID: exchange.id, service: self)
    }

    private func restorePath(
        _ exchange: Exchange, _ name: SpriteName, _ id: CheckpointID, _ path: String
    ) async throws {
        let states = try stateControl()
        let stream = OperationStream(exchange, opening: "Restoring \(path) from \(id)...")
        try await stream.run(
            { _ in
                let (restored, replaced) = try await states.restorePath(name, id, path: path)
                var last = OperationStream.event("complete", "Restored \(path) from \(id)")
                last.checkpointID = id.rawValue
                last.replacedID = replaced.rawValue
                return [
                    OperationStream.event(
                        "info",
                        "  \(restored.files) names, \(restored.bytes) bytes, \(restored.copiedBytes) of them copied"),
                    OperationStream.event("info", "  The state before is kept as \(replaced)"), last,
                ]
            }, requestID: exchange.id, service: self)
    }

    /// `POST` pins, `DELETE` unpins; both answer the checkpoint.
    func pin(_ exchange: Exchange, _ name: SpriteName, _ text: String) async throws {
        let id = try checkpointID(text, of: name)
        let changed = try await stateControl().pin(name, id, exchange.method == "POST")
        try await exchange.send(json: wire(changed))
    }

    func undoRestore(_ exchange: Exchange, _ name: SpriteName) async throws {
        let stream = OperationStream(exchange, opening: "Undoing the last restore...")
        try await stream.run(
            { progress in
                let replaced = try await control.undoRestore(name, progress: progress)
                var last = OperationStream.event("complete", "The last restore is undone")
                last.replacedID = replaced.rawValue
                return [OperationStream.event("info", "  The replaced state is kept as \(replaced)"), last]
            }, requestID: exchange.id, service: self)
    }
}

/// Which checkpoint descends from which.
private struct Lineage {
    private var sources: [CheckpointID: CheckpointID] = [:]

    init(_ checkpoints: [Checkpoint]) {
        for checkpoint in checkpoints { sources[checkpoint.id] = checkpoint.source }
    }

    /// Nearest first; a chain that was cut by a deletion ends with the id that is gone.
    func ancestors(of id: CheckpointID) -> [CheckpointID] {
        var chain: [CheckpointID] = []
        var next = sources[id]
        // Bounded, should a damaged registry hold a circle.
        while let id = next, chain.count <= sources.count {
            chain.append(id)
            next = sources[id]
        }
        return chain
    }
}
