// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Serves the API to what runs inside a sprite, over a socket whose owner is its identity.
///
/// Told by the lifecycle what becomes of a sprite's machine.
package protocol InsideDriver: Sendable {
    /// The sandbox runs and its folder is there: listens in it. What fails is logged; the sprite goes on without.
    func started(_ sprite: SpriteID, _ name: SpriteName) async
    /// The sandbox is about to end: closes the socket and every connection, so that nothing that was sent by the
    /// sprite is answered as if it came from another one.
    func stopping(_ sprite: SpriteID) async
}

/// A command that goes on after a restore, since what asked for the restore is ended by it.
package struct FollowUp: Sendable, Hashable {
    /// Run by `/bin/sh`.
    package var command: String
    /// Number of a user in the sprite.
    package var user: UInt32
    package init(command: String, user: UInt32) {
        self.command = command
        self.user = user
    }
}

/// What is to be started in a sprite once a restore of it is done: the hook of the restored disk, and a command.
///
/// Kept in the registry from the restore's beginning until it was started, so that no end of the daemon loses it.
package struct Resumption: Sendable, Hashable {
    package var restored: CheckpointID
    package var replaced: CheckpointID
    /// A description of a ``RequestOrigin``.
    package var origin: String
    package var followUp: FollowUp?
    package init(restored: CheckpointID, replaced: CheckpointID, origin: String, followUp: FollowUp? = nil) {
        self.restored = restored
        self.replaced = replaced
        self.origin = origin
        self.followUp = followUp
    }
}

/// Who asked for what is being done, for records of it; the same for everything one request starts.
package enum RequestOrigin: Sendable, Hashable, CustomStringConvertible {
    /// A client of the API, outside.
    case outside
    /// A client of the API, by the id of its token.
    case token(String)
    /// A process in the sprite itself, of the user with this number in it.
    case inside(user: UInt32)

    @TaskLocal package static var current = RequestOrigin.outside

    package var description: String {
        switch self {
        case .outside, .token: "outside"
        case .inside: "inside"
        }
    }
}
