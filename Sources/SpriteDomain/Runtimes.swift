// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// One version of a runtimes layer, written `NAME@VERSION`.
///
/// The version is the beginning of a checksum of everything in the layer, so the same content has the same version.
package struct RuntimesVersion: Hashable, Sendable, CustomStringConvertible {
    package let name: String
    package let version: String

    /// - Throws: ``SpriteError`` with `.invalidRequest`.
    package init(name: String, version: String) throws {
        self.name = try Self.checkedName(name)
        guard version.utf8.count == 12, version.utf8.allSatisfy(Self.isHexadecimal) else {
            throw SpriteError(
                .invalidRequest, "invalid runtimes version: use 12 of 0-9 and a-f, as `sprited runtimes list` shows it")
        }
        self.version = version
    }

    /// Takes `NAME@VERSION`.
    package init(_ text: String) throws {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw SpriteError(.invalidRequest, "invalid runtimes: write NAME@VERSION")
        }
        try self.init(name: String(parts[0]), version: String(parts[1]))
    }

    /// A layer's name: up to 40 of a-z, 0-9 and '-'.
    package static func checkedName(_ text: String) throws -> String {
        let isName = text.utf8.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || $0 == 0x2D
        }
        guard isName, (1...40).contains(text.utf8.count), !text.hasPrefix("-"), text != "none" else {
            throw SpriteError(
                .invalidRequest, "invalid runtimes name: use 1 to 40 of a-z, 0-9 and '-', not beginning with '-'")
        }
        return text
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (byte >= 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x66)
    }

    package var description: String { "\(name)@\(version)" }
}

/// Keeps the layers of language runtimes that lie between the base and the disk of sprites.
package protocol RuntimesDriver: Sendable {
    /// The layer a new sprite gets.
    ///
    /// - Parameter wish: `none`, `NAME`, `NAME@VERSION`, or nil for what the operator chose for sprites of this base.
    /// - Throws: `.notFound`, `.invalidRequest`, `.conflict` for a layer that was built on another base.
    func resolve(_ wish: String?, base: BaseName) async throws -> RuntimesVersion?
    /// The version that a sprite with this one gets by an upgrade: the one in use of the same name.
    func newest(of version: RuntimesVersion, base: BaseName) async throws -> RuntimesVersion
    /// Makes sure that the layer is mounted; returns the folder to put under a sprite.
    ///
    /// - Parameter sprite: Begins to run on it: noted until ``release(_:)``, also for the next daemon.
    func mount(_ version: RuntimesVersion, for sprite: SpriteID) async throws -> String
    /// The version that the sprite began to run on; an upgrade may have given it another one since.
    func mounted(by sprite: SpriteID) -> RuntimesVersion?
    /// The sprite runs on no layer.
    func release(_ sprite: SpriteID)
    /// Whether sprites that outlived the last daemon can still read this layer.
    func isAlive(_ version: RuntimesVersion) async -> Bool
}
