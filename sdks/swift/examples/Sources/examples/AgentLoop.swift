// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// An agent's loop: every step starts from a checkpoint, and a step that fails is undone.
@Sendable func agentLoop() async throws {
    try await withSprite { sprite in
        var options = CommandOptions()
        options.timeout = .seconds(30)
        for step in ["echo a > work", "echo b >> work; exit 1", "echo c >> work"] {
            let before = try await sprite.createCheckpoint(comment: step)
            let result = try await sprite.command(step, options).run()
            if !result.isSuccess { _ = try await sprite.restore(before.id) }
            print(result.isSuccess ? "kept" : "undone", step)
        }
        print(String(decoding: try await sprite.files.read("work"), as: UTF8.self).split(separator: "\n"))
    }
}
