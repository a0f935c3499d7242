// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Callers need the fields of these types, and should not have to know that they live in a module of their own.
@_exported public import SpriteAPI

/// What the server says about a sprite.
public typealias SpriteInfo = API.Sprite
/// A kept state of a sprite's disk.
public typealias Checkpoint = API.Checkpoint
/// A command that runs in a sprite.
public typealias SessionInfo = API.Session
/// A line of the server about how an operation goes.
public typealias ProgressEvent = API.StreamEvent
/// Limits of a sprite.
public typealias SpriteLimits = API.Configuration

/// What a new sprite should be like.
public struct SpriteOptions: Sendable {
    /// Free words to find it by.
    public var labels: [String] = []
    /// Variables that every command gets.
    public var environment: [String: String] = [:]
    /// Its limits.
    public var limits = SpriteLimits()
    /// The base image; nil means the server's default.
    public var base: String?
    /// The layer of language runtimes: `none`, `NAME` or `NAME@VERSION`; nil means what the operator chose.
    public var runtimes: String?
    /// Who may use its URL: `sprite` or `public`.
    public var urlAuthentication: String?

    /// Makes the defaults.
    public init() {}

    func body(_ name: String) -> API.CreateSprite {
        var body = API.CreateSprite(name: name)
        body.configuration = limits == SpriteLimits() ? nil : limits
        body.environment = environment.isEmpty ? nil : environment
        body.labels = labels.isEmpty ? nil : labels
        body.base = base
        body.runtimes = runtimes
        body.urlSettings = urlAuthentication.map { API.URLSettings(auth: $0) }
        return body
    }
}
