// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Takes a checkpoint and goes back to it.
@Sendable func checkpoint() async throws {
    try await withSprite { sprite in
        func state() async throws -> String {
            String(decoding: try await sprite.files.read("state").dropLast(), as: UTF8.self)
        }
        try await sprite.files.write("state", Array("good\n".utf8))
        let created = try await sprite.createCheckpoint(comment: "before the experiment")
        let checkpoint = try await sprite.checkpoint(created.id)
        print(checkpoint.id, checkpoint.comment ?? "")
        _ = try await sprite.command("echo broken > state").run()
        _ = try await sprite.restore(checkpoint.id)
        print(try await state())
        _ = try await sprite.undoRestore()
        print(try await state())
    }
}
