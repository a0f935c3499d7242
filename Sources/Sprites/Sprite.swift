// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI

/// One sprite, by name.
///
/// A handle costs nothing and holds no connection; it stays valid when the sprite is destroyed, and then every call
/// throws ``SpritesError`` with `.notFound`.
public struct Sprite: Sendable {
    let client: SpritesClient
    /// The sprite's name.
    public let name: String
    /// What the server said when the handle was made; nil for a handle from ``SpritesClient/sprite(_:)``.
    public let info: SpriteInfo?

    var path: String { "/v1/sprites/\(API.PercentCoding.encode(name))" }
    var http: HTTPTransport { client.http }
    var requestTimeout: Duration { client.options.requestTimeout }

    /// Asks the server how the sprite is now.
    public func fetchInfo() async throws -> SpriteInfo {
        try await http.get(path, as: SpriteInfo.self, timeout: requestTimeout)
    }

    /// Asks what its disk and each of its checkpoints take; the server reads the structure of all of them.
    public func fetchDiskUse() async throws -> API.DiskUse {
        try await http.get(path + "/disk", as: API.DiskUse.self, timeout: requestTimeout)
    }

    /// What to change; nil fields stay as they are.
    public struct Update: Sendable {
        /// Replaces all labels.
        public var labels: [String]?
        /// Who may use its URL: `sprite` or `public`.
        public var urlAuthentication: String?
        /// New limits; nil fields of it stay as they are, and 0 takes a limit away.
        public var limits: SpriteLimits?

        /// Changes nothing.
        public init() {}
    }

    /// Changes labels, limits or URL settings.
    @discardableResult
    public func update(_ update: Update) async throws -> SpriteInfo {
        var body = API.UpdateSprite()
        body.labels = update.labels
        body.configuration = update.limits
        body.urlSettings = update.urlAuthentication.map { API.URLSettings(auth: $0) }
        return try await http.call(.PUT, path, body, as: SpriteInfo.self, timeout: requestTimeout)
    }

    /// Kills what runs and deletes the sprite with all its checkpoints, for ever.
    public func destroy() async throws {
        _ = try await http.send(.DELETE, path, timeout: requestTimeout)
        client.pool.forget(name)
    }

    /// Puts it to sleep now: what runs is asked to end, and killed after 5 s. The next use starts it again.
    public func stop() async throws {
        _ = try await http.send(.POST, path + "/stop", timeout: requestTimeout)
    }

    /// Stops it and starts it again.
    public func restart() async throws {
        _ = try await http.send(.POST, path + "/restart", timeout: requestTimeout)
    }

    /// Gives it another version of its language runtimes from its next start on.
    ///
    /// - Parameter runtimes: `none`, `NAME` or `NAME@VERSION`; nil means the version in use of the layer that it has.
    public func upgrade(runtimes: String? = nil) async throws {
        _ = try await http.send(
            .POST, path + "/upgrade", body: try http.encoded(API.UpgradeSprite(runtimes: runtimes)),
            timeout: requestTimeout)
    }

    /// Makes a new sprite with a copy of this one's disk.
    ///
    /// - Parameters:
    ///   - name: The new sprite's name.
    ///   - checkpoint: The state to copy; nil means that of now.
    ///   - keepsIdentity: Leaves machine-id, host keys and stale files as they are; otherwise `info.identity` of the
    ///     new sprite tells what was made new.
    public func fork(
        to name: String, checkpoint: String? = nil, keepsIdentity: Bool = false
    ) async throws -> Sprite {
        var body = API.ForkSprite(name: name, checkpoint: checkpoint)
        body.keepIdentity = keepsIdentity ? true : nil
        let info = try await http.call(
            .POST, path + "/fork", body, as: SpriteInfo.self, timeout: requestTimeout)
        return Sprite(client: client, name: info.name, info: info)
    }
}
