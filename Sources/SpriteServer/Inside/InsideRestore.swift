// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOHTTP1
import SpriteAPI
import SpriteDomain

/// How a restore that was asked for inside goes.
///
/// `{"state": "done", "checkpoint_id": "v1", "replaced_id": "auto-2", "started_at": "…", "ended_at": "…"}`
struct RestoreReport: Encodable, Sendable {
    /// `running`, `done` or `failed`.
    var state = "running"
    var checkpointID: String
    var replacedID: String?
    var startedAt = Timestamp.now().text
    var endedAt: String?
    /// Of a failure.
    var message: String?

    enum CodingKeys: String, CodingKey {
        case state, message
        case checkpointID = "checkpoint_id"
        case replacedID = "replaced_id"
        case startedAt = "started_at"
        case endedAt = "ended_at"
    }
}

extension APIService {
    /// Acknowledges, lets the one who asked read it, and restores: that ends every process of the sprite.
    ///
    /// - Parameter text: The checkpoint; nil undoes the last restore.
    func restoreFromInside(_ exchange: Exchange, _ caller: InsideCaller, _ text: String?) async throws {
        let body = try await exchange.body(API.RestoreInside.self)
        let then = body?.then.flatMap { $0.isEmpty ? nil : $0 }
        if let then, then.utf8.count > Limits.thenCommandBytesMax || then.utf8.contains(0) {
            throw SpriteError(
                .invalidRequest,
                "invalid 'then': it has \(then.utf8.count) bytes, the limit is \(Limits.thenCommandBytesMax), and it "
                    + "may hold no NUL byte; put the work into a script of the checkpoint")
        }
        let id = try await text.asyncMap {
            try await control.checkpoint(caller.name, checkpointID($0, of: caller.name)).id
        }
        exchange.closeAfterwards()
        try await beginRestore(caller, id, then: then) { report in
            try? await exchange.send(.accepted, json: report)
        } untilRead: {
            // Most clients close at once; one that does not has had its time.
            let deadline = ContinuousClock.now + Limits.insideFarewell
            while !exchange.client.isGone, ContinuousClock.now < deadline {
                try? await Task.sleep(for: .milliseconds(5))
            }
        }
    }

    /// Returns once it was acknowledged; throws if it cannot begin.
    ///
    /// - Parameters:
    ///   - id: Nil undoes the last restore.
    ///   - acknowledge: Tells the caller; what the caller reads now is the last thing it reads.
    ///   - untilRead: Waits until the caller has read that.
    func beginRestore(
        _ caller: InsideCaller, _ id: CheckpointID?, then: String?,
        acknowledge: @escaping @Sendable (RestoreReport) async -> Void,
        untilRead: @escaping @Sendable () async -> Void
    ) async throws {
        guard let inside = configuration.inside else { return }
        let (begun, signal) = AsyncThrowingStream.makeStream(of: Void.self)
        let report = NIOLockedValueBox(RestoreReport(checkpointID: id?.rawValue ?? "undo"))
        let isAcknowledged = NIOLockedValueBox(false)
        let progress: Progress = { _ in
            // The first word means that nothing stands in the way any more, and that nothing was stopped yet.
            let isFirst = isAcknowledged.withLockedValue { flag in
                defer { flag = true }
                return !flag
            }
            guard isFirst else { return }
            let current = report.withLockedValue { $0 }
            inside.note(current, of: caller.sprite)
            configuration.journal.record(
                JournalRecord(
                    "restore.requested", kind: .checkpoint, sprite: caller.sprite,
                    "a restore was asked for inside",
                    fields: [
                        ("checkpoint", .text(current.checkpointID)), ("origin", "inside"),
                        ("user", .number(Int64(caller.user))),
                    ]))
            await acknowledge(current)
            signal.finish()
            await untilRead()
        }
        let followUp = then.map { FollowUp(command: $0, user: caller.user) }
        // Outlives the request: the one who asked is killed in the middle of it.
        Task {
            do {
                let replaced =
                    if let id {
                        try await control.restore(caller.name, id, then: followUp, progress: progress)
                    } else {
                        try await control.undoRestore(caller.name, then: followUp, progress: progress)
                    }
                report.withLockedValue {
                    $0.state = "done"
                    $0.replacedID = replaced.rawValue
                    $0.endedAt = Timestamp.now().text
                }
                inside.note(report.withLockedValue { $0 }, of: caller.sprite)
            } catch {
                let message = ErrorReply(error, requestID: "restore", logger: logger).body.message
                report.withLockedValue {
                    if $0.endedAt == nil { $0.state = "failed" }
                    $0.endedAt = $0.endedAt ?? Timestamp.now().text
                    $0.message = message
                }
                if isAcknowledged.withLockedValue({ $0 }) {
                    inside.note(report.withLockedValue { $0 }, of: caller.sprite)
                }
                signal.finish(throwing: error)
            }
        }
        for try await _ in begun {}
    }
}

extension Optional {
    fileprivate func asyncMap<Other>(_ body: (Wrapped) async throws -> Other) async rethrows -> Other? {
        guard let self else { return nil }
        return try await body(self)
    }
}
