// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Makes a second sprite from the first.
@Sendable func fork() async throws {
    try await withSprite { sprite in
        try await sprite.files.write("state", Array("shared\n".utf8))
        let twin = try await sprite.fork(to: sprite.name + "-twin")
        _ = try await twin.command("echo other > state").run()
        for one in [sprite, twin] {
            print(String(decoding: try await one.files.read("state"), as: UTF8.self), terminator: "")
        }
        try await twin.destroy()
    }
}
