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

/// Who asked for what is being done, for records of it; the same for everything one request starts.
package enum RequestOrigin: Sendable, Hashable, CustomStringConvertible {
    /// A client of the API, outside.
    case outside
    /// A process in the sprite itself, of the user with this number in it.
    case inside(user: UInt32)

    @TaskLocal package static var current = RequestOrigin.outside

    package var description: String {
        switch self {
        case .outside: "outside"
        case .inside: "inside"
        }
    }
}
