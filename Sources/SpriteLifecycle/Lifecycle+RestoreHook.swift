// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain

extension Lifecycle {
    /// Starts `/etc/sprite/on-restore` of the restored disk, if there is one, as root.
    ///
    /// It is an ordinary session, so it can be listed, attached to and killed, and holds its sprite awake while it
    /// runs, for an hour at most. Where the file is missing, the session ends at once.
    nonisolated func runRestoreHook(_ sprite: SpriteID, from checkpoint: CheckpointID, replaced: CheckpointID) {
        var request = ExecRequest(
            arguments: ["/etc/sprite/on-restore", checkpoint.rawValue], directory: "/", user: "root",
            maxRunAfterDisconnect: nil)
        request.environment = [
            ("SPRITE_RESTORED", checkpoint.rawValue), ("SPRITE_REPLACED", replaced.rawValue),
            ("SPRITE_RESTORE_ORIGIN", "\(RequestOrigin.current)"),
        ]
        // Behind the answer: whoever restores does not wait for what the sprite does afterwards.
        Task { [drivers, request] in
            do {
                let session = try await drivers.sessions.exec(sprite, request)
                await session.follow(for: Limits.onRestoreTimeout)
            } catch {
                drivers.logger.notice(
                    "the hook after a restore did not run", metadata: ["sprite.id": "\(sprite)", "error": "\(error)"])
            }
        }
    }
}
