// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI

/// A checkpoint that was just made.
public struct CreatedCheckpoint: Sendable, Hashable {
    /// Its id, such as `v3`.
    public var id: String
    /// Time spent writing out dirty data, while the sprite went on; nil if the server does not say.
    public var flush: Duration?
    /// Time of the snapshot itself, while the sprite was held still; nil if the server does not say.
    public var snapshot: Duration?
}

/// What a restore did, as far as the server says.
public struct Restored: Sendable, Hashable {
    /// The checkpoint whose state is live now.
    public var id: String?
    /// The automatic checkpoint that keeps the replaced state.
    public var replacedID: String?
}

/// Called for each line a server says about an operation.
public typealias ProgressHandler = @Sendable (ProgressEvent) async -> Void

extension Sprite {
    /// Keeps the state of the disk at this instant; what runs goes on.
    ///
    /// - Throws: ``SpritesError``: `.conflict` while a restore runs, `.noSpace` if the storage is full.
    public func createCheckpoint(
        comment: String? = nil, onProgress: ProgressHandler? = nil
    ) async throws -> CreatedCheckpoint {
        var created = CreatedCheckpoint(id: "")
        try await operation(path + "/checkpoint", try http.encoded(API.CreateCheckpoint(comment: comment))) { event in
            if let id = event.checkpointID ?? event.data.flatMap(checkpointID) { created.id = id }
            created.flush = event.flushMilliseconds.flatMap(duration) ?? created.flush
            created.snapshot = event.snapshotMilliseconds.flatMap(duration) ?? created.snapshot
            await onProgress?(event)
        }
        guard !created.id.isEmpty else {
            throw SpritesError(.invalidResponse, "the checkpoint was made, but the server did not say its id")
        }
        return created
    }

    /// The checkpoints, newest first, without the live state.
    ///
    /// - Parameters:
    ///   - includeAutomatic: Also those made by restores.
    ///   - ancestor: Only those that descend from this one.
    public func checkpoints(
        includeAutomatic: Bool = false, descendingFrom ancestor: String? = nil
    ) async throws -> [Checkpoint] {
        var query = API.Query()
        if includeAutomatic { query.items.append(.init("includeAuto", "true")) }
        if let ancestor { query.items.append(.init("history", ancestor)) }
        let all = path + "/checkpoints" + (query.items.isEmpty ? "" : "?" + query.encoded)
        return try await http.get(all, as: [Checkpoint].self, timeout: requestTimeout).filter { $0.id != "Current" }
    }

    /// One checkpoint.
    public func checkpoint(_ id: String) async throws -> Checkpoint {
        try await http.get(
            path + "/checkpoints/" + API.PercentCoding.encode(id), as: Checkpoint.self, timeout: requestTimeout)
    }

    /// Deletes a checkpoint.
    ///
    /// - Throws: ``SpritesError`` with `.conflict` for the one the live state descends from.
    public func deleteCheckpoint(_ id: String) async throws {
        _ = try await http.send(.DELETE, path + "/checkpoints/" + API.PercentCoding.encode(id), timeout: requestTimeout)
    }

    /// Puts the disk back to a checkpoint; all sessions end, and the sprite runs again when this returns.
    ///
    /// The replaced state is kept as an automatic checkpoint; ``undoRestore(onProgress:)`` brings it back.
    @discardableResult
    public func restore(_ id: String, onProgress: ProgressHandler? = nil) async throws -> Restored {
        var restored = Restored()
        try await operation(path + "/checkpoints/\(API.PercentCoding.encode(id))/restore", nil) { event in
            restored.id = event.checkpointID ?? restored.id
            restored.replacedID = event.replacedID ?? restored.replacedID
            await onProgress?(event)
        }
        return restored
    }

    /// Brings back the state that the last restore replaced.
    @discardableResult
    public func undoRestore(onProgress: ProgressHandler? = nil) async throws -> Restored {
        try await restore("undo", onProgress: onProgress)
    }

    /// Posts, and reads events until the last one tells how it ended.
    func operation(
        _ path: String, _ body: [UInt8]?, onEvent: (ProgressEvent) async throws -> Void
    ) async throws {
        var last: ProgressEvent?
        try await http.lines(.POST, path, body: body, timeout: client.options.operationTimeout) { line in
            let event = try http.decoded(line, as: ProgressEvent.self)
            try await onEvent(event)
            last = event
        }
        switch last?.type {
        case "complete":
            return
        case "error":
            throw SpritesError(
                .init(rawValue: last?.code ?? "internal"), last?.error ?? last?.data ?? "the operation failed")
        default:
            throw SpritesError(.connectionLost, "the connection to \(http.address.text) was lost: it ended too early")
        }
    }
}

/// Finds the id in a sentence of the server: `ID: v3` or `Checkpoint v3 created`.
func checkpointID(_ text: String) -> String? {
    let words = text.split(separator: " ")
    for (index, word) in words.enumerated().dropLast() {
        if word == "ID:" { return String(words[index + 1]) }
        if word == "Checkpoint", index + 2 < words.count, words[index + 2].hasPrefix("created") {
            return String(words[index + 1])
        }
    }
    return nil
}

private func duration(_ milliseconds: Double) -> Duration? {
    guard milliseconds >= 0, milliseconds < 1e12 else { return nil }
    return .microseconds(Int64(milliseconds * 1000))
}
