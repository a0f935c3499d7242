// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A process of a command has begun, or ceased, to listen on a TCP port.
public struct PortChange: Sendable, Hashable {
    /// Whether it listens now.
    public var isOpen: Bool
    /// The port in the sprite.
    public var port: Int
    /// The address it listens on.
    public var address: String
}
