// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI

/// A service and its state.
public typealias Service = API.Service
/// Something a service did or printed.
public typealias ServiceEvent = API.ServiceStreamEvent

/// What a service runs.
public struct ServiceOptions: Sendable {
    /// Arguments, without the executable.
    public var arguments: [String] = []
    /// Services that must run first.
    public var needs: [String] = []
    /// The port that requests to the sprite's URL go to.
    public var httpPort: Int?
    /// Variables laid over the default environment.
    public var environment: [String: String] = [:]
    /// Working directory; nil means the user's home.
    public var directory: String?

    /// Makes the defaults.
    public init() {}
}

/// Commands that a sprite keeps running.
public struct SpriteServices: Sendable {
    let sprite: Sprite

    private func path(_ name: String, _ rest: String = "") -> String {
        "\(sprite.path)/services/\(API.PercentCoding.encode(name))\(rest)"
    }

    private func events(_ method: HTTPMethod, _ path: String, _ body: [UInt8]?) async throws -> [ServiceEvent] {
        var found: [ServiceEvent] = []
        try await sprite.http.lines(method, path, body: body, timeout: sprite.client.options.operationTimeout) { line in
            found.append(try sprite.http.decoded(line, as: ServiceEvent.self))
        }
        return found
    }

    private struct Definition: Encodable {
        var cmd: String
        var args: [String]
        var needs: [String]
        var http_port: Int?
        var env: [String: String]
        var dir: String?
    }

    /// Defines or replaces a service, starts it and returns what it did while it was followed.
    @discardableResult
    public func create(
        _ name: String, _ executable: String, _ options: ServiceOptions = ServiceOptions(), follow: Duration = .zero
    ) async throws -> [ServiceEvent] {
        let definition = Definition(
            cmd: executable, args: options.arguments, needs: options.needs, http_port: options.httpPort,
            env: options.environment, dir: options.directory)
        let path = path(name, "?duration=\(API.DurationText.text(follow))")
        return try await events(.PUT, path, try sprite.http.encoded(definition))
    }

    /// All services, in name order.
    public func list() async throws -> [Service] {
        try await sprite.http.get(sprite.path + "/services", as: [Service].self, timeout: sprite.requestTimeout)
    }

    /// One service and its state.
    public func get(_ name: String) async throws -> Service {
        try await sprite.http.get(path(name), as: Service.self, timeout: sprite.requestTimeout)
    }

    /// Starts a service, and what it needs.
    @discardableResult
    public func start(_ name: String, follow: Duration = .zero) async throws -> [ServiceEvent] {
        try await events(.POST, path(name, "/start?duration=\(API.DurationText.text(follow))"), nil)
    }

    /// Stops a service and starts it again.
    @discardableResult
    public func restart(_ name: String, follow: Duration = .zero) async throws -> [ServiceEvent] {
        try await events(.POST, path(name, "/restart?duration=\(API.DurationText.text(follow))"), nil)
    }

    /// Stops a service until it is started again: SIGTERM, after the timeout SIGKILL.
    @discardableResult
    public func stop(_ name: String, timeout: Duration = .seconds(10)) async throws -> [ServiceEvent] {
        try await events(.POST, path(name, "/stop?timeout=\(API.DurationText.text(timeout))"), nil)
    }

    /// Stops a service and forgets it.
    public func delete(_ name: String) async throws {
        _ = try await sprite.http.send(.DELETE, path(name), timeout: sprite.requestTimeout)
    }

    /// Signals the process group of a service.
    public func signal(_ name: String, _ signal: String) async throws {
        let body = try sprite.http.encoded(["name": name, "signal": signal])
        _ = try await sprite.http.send(
            .POST, sprite.path + "/services/signal", body: body, timeout: sprite.requestTimeout)
    }

    /// The last lines a service printed, and what it prints while it is followed.
    public func logs(_ name: String, lines: Int = 100, follow: Duration = .zero) async throws -> [ServiceEvent] {
        let duration = follow == .zero ? "" : "&duration=\(API.DurationText.text(follow))"
        return try await events(.GET, path(name, "/logs?lines=\(lines)\(duration)"), nil)
    }

    /// Hands out the last lines a service printed, and what it prints while it is followed, as it comes.
    ///
    /// - Parameter onEvent: Ends it by throwing.
    public func logs(
        _ name: String, lines: Int = 100, follow: Duration, onEvent: (ServiceEvent) async throws -> Void
    ) async throws {
        let query = "/logs?lines=\(lines)&duration=\(API.DurationText.text(follow))"
        try await sprite.http.lines(
            .GET, path(name, query), body: nil, timeout: sprite.requestTimeout + follow
        ) { line in
            try await onEvent(try sprite.http.decoded(line, as: ServiceEvent.self))
        }
    }
}

extension Sprite {
    /// The services of the sprite.
    public var services: SpriteServices { SpriteServices(sprite: self) }
}
