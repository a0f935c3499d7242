// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Toolbox {
    var checkpointTools: [Tool] {
        [createCheckpoint, listCheckpoints, deleteCheckpoint, restoreCheckpoint, undoRestore]
    }

    private var createCheckpoint: Tool {
        Tool(
            name: "create_checkpoint", title: "Create a checkpoint",
            about: "Snapshots the sprite's whole disk in milliseconds while it goes on; memory and processes are not "
                + "part of it. Do this before anything risky. Undo: delete_checkpoint.",
            effect: .adds,
            parameters: spriteParameter + [
                .text("comment", "What it is for.", bytesMax: Limits.commentBytesMax)
            ]
        ) { call in
            let name = try await sprite(call.arguments)
            if case .inside = reach {
                let count = try await world.control.checkpoints(name, includeAutomatic: false).count
                guard count < Limits.insideCheckpointsMax else {
                    throw SpriteError(
                        .limitReached,
                        "the sprite has \(count) checkpoints, the limit is \(Limits.insideCheckpointsMax)")
                }
            }
            let made = try await world.control.checkpoint(name, comment: call.arguments.text("comment")) {
                await call.progress($0)
            }
            return ToolResult(json(made))
        }
    }

    private var listCheckpoints: Tool {
        Tool(
            name: "list_checkpoints", title: "List checkpoints",
            about: "Lists checkpoints, newest first, 50 at once. v0 is the state at creation. Changes nothing.",
            effect: .reads,
            parameters: spriteParameter + [
                Parameter(
                    name: "include_automatic", kind: .flag, about: "Also the states that restores replaced (auto-N).",
                    standard: false),
                .text("cursor", "next_cursor of the call before.", bytesMax: 40),
            ]
        ) { call in
            let all = try await world.control.checkpoints(
                try await sprite(call.arguments), includeAutomatic: call.arguments.flag("include_automatic"))
            var rest = all[...]
            if let cursor = call.arguments.text("cursor") {
                guard let place = all.firstIndex(where: { $0.id.rawValue == cursor }) else {
                    throw ToolFailure("'cursor' is not one that an earlier call gave; call again without it")
                }
                rest = all[all.index(after: place)...]
            }
            let page = rest.prefix(50)
            var answer: [String: JSON] = ["checkpoints": .list(page.map(json))]
            if page.count < rest.count, let last = page.last { answer["next_cursor"] = last.id.rawValue.json }
            return ToolResult(.object(answer))
        }
    }

    private var deleteCheckpoint: Tool {
        Tool(
            name: "delete_checkpoint", title: "Delete a checkpoint",
            about: "Deletes a checkpoint and frees what only it holds. CANNOT be undone; the live disk is not touched.",
            effect: .destroys,
            parameters: spriteParameter + [.text("checkpoint", "Such as v3.", required: true, bytesMax: 40)]
        ) { call in
            let id = try checkpointID(call.arguments.text("checkpoint"))
            try await world.control.deleteCheckpoint(try await sprite(call.arguments), id)
            return ToolResult(["deleted": id.rawValue.json])
        }
    }

    private var thenParameter: [Parameter] {
        guard case .inside = reach else { return [] }
        return [
            .text(
                "then", "A shell command that runs in the restored sprite, to take the work up again.",
                bytesMax: Limits.thenCommandBytesMax)
        ]
    }

    private var ending: String {
        guard case .inside = reach else {
            return "All processes of the sprite end; services start again."
        }
        return "Every process of this sprite ends, this server and you too if you run in it; services start again. "
            + "Give 'then' to go on afterwards."
    }

    private var restoreCheckpoint: Tool {
        Tool(
            name: "restore_checkpoint", title: "Restore a checkpoint",
            about: "Puts the sprite's whole disk back to a checkpoint. \(ending) What was replaced is kept. "
                + "Undo: undo_restore.",
            effect: .destroys,
            parameters: spriteParameter + [.text("checkpoint", "Such as v3.", required: true, bytesMax: 40)]
                + thenParameter
        ) { call in
            let id = try checkpointID(call.arguments.text("checkpoint"))
            return try await restore(call, id)
        }
    }

    private var undoRestore: Tool {
        Tool(
            name: "undo_restore", title: "Undo the last restore",
            about: "Puts the disk back to what the last restore replaced. \(ending) Undo: undo_restore again.",
            effect: .destroys, parameters: spriteParameter + thenParameter
        ) { call in try await restore(call, nil) }
    }

    private func restore(_ call: ToolCall, _ id: CheckpointID?) async throws -> ToolResult {
        let name = try await sprite(call.arguments)
        guard case .inside(let sprite, _, let user) = reach else {
            let replaced =
                if let id {
                    try await world.control.restore(name, id, progress: { await call.progress($0) })
                } else {
                    try await world.control.undoRestore(name, progress: { await call.progress($0) })
                }
            return ToolResult([
                "restored": (id?.rawValue ?? "undone").json, "replaced_state_kept_as": replaced.rawValue.json,
            ])
        }
        // Refused now, while somebody can still be told.
        let all = try await world.control.checkpoints(name, includeAutomatic: true)
        guard all.contains(where: { id == nil ? $0.id.isAutomatic : $0.id == id }) else {
            throw SpriteError(
                .notFound, id.map { "there is no checkpoint \($0)" } ?? "cannot undo: the sprite was never restored")
        }
        let then = call.arguments.text("then")
        return ToolResult(
            ["restoring": (id?.rawValue ?? "undo").json],
            text: "Restoring: every process of this sprite ends now, and it starts again."
        ) { try? await world.restoreInside(name, sprite, user, id, then) }
    }

    func json(_ checkpoint: Checkpoint) -> JSON {
        var object: [String: JSON] = ["id": checkpoint.id.rawValue.json, "created_at": checkpoint.createdAt.json]
        if let comment = checkpoint.comment { object["comment"] = comment.json }
        if let source = checkpoint.source { object["descends_from"] = source.rawValue.json }
        return .object(object)
    }
}
