// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import AsyncHTTPClient
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import SpriteAPI

/// A connection to a Sprites server: makes, finds and lists sprites.
///
/// ```swift
/// let client = try SpritesClient(baseURL: "http://127.0.0.1:7780", token: token)
/// let sprite = try await client.create("demo")
/// let result = try await sprite.command("uname -a").run()
/// print(result.stdoutText)
/// try await client.close()
/// ```
///
/// It keeps connections and one event loop thread until ``close()``, or until the last reference to it, its sprites and
/// their running commands goes. Every call throws ``SpritesError``, and `CancellationError` when the task was cancelled.
public final class SpritesClient: Sendable {
    /// Settings that few need.
    public struct Options: Sendable {
        /// How long an ordinary request may take; creating a sprite may have to start a machine.
        public var requestTimeout: Duration = .seconds(120)
        /// How long an operation that reports its progress may take, such as a checkpoint of a large disk.
        public var operationTimeout: Duration = .seconds(3600)
        /// Sent as `User-Agent`.
        public var userAgent = "sprite-env-swift/" + SpritesClient.version
        /// A PEM file of certificate authorities to trust instead of the system's.
        public var certificateAuthorityPath: String?
        /// Which HTTP proxy requests go through.
        public var proxy = ProxySetting.environment
        /// Commands that run at once; more wait for a free connection.
        public var connectionsMax = 1024
        /// Control connections kept for each sprite.
        public var idleConnectionsMax = 16
        /// How long a connection is kept without use.
        public var idleTimeout: Duration = .seconds(60)
        /// Whether commands with pipes share control connections; otherwise each opens one of its own.
        public var usesControl = true
        /// Called with a line about every request: method, path without its query, result and time.
        public var onRequest: (@Sendable (String) -> Void)?

        /// Makes the defaults.
        public init() {}
    }

    /// The version of this library.
    public static let version = "0.1.0"

    let http: HTTPTransport
    let pool: ConnectionPool
    let options: Options
    private let group: MultiThreadedEventLoopGroup
    var eventLoopGroup: any EventLoopGroup { group }
    private let isClosed = NIOLockedValueBox(false)

    /// Makes a client; connections are opened when they are needed.
    ///
    /// - Parameters:
    ///   - baseURL: `http://` or `https://`, without `/v1`; `SPRITES_API_URL`, else `http://127.0.0.1:7780`.
    ///   - token: What the server accepts as bearer token; `SPRITE_TOKEN`.
    /// - Throws: ``SpritesError``: `.invalidRequest` if the URL or the token cannot be right, `.unauthorized` if there is
    ///   no token.
    public init(baseURL: String? = nil, token: String? = nil, options: Options = Options()) throws {
        let address = try ServerAddress(baseURL ?? variable("SPRITES_API_URL") ?? "http://127.0.0.1:7780")
        guard let token = token ?? variable("SPRITE_TOKEN") else {
            throw SpritesError(.unauthorized, "no token was given")
        }
        guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !token.isEmpty else {
            throw SpritesError(.invalidRequest, "invalid token: it is empty, or holds spaces or control characters")
        }
        var tls: NIOSSLContext?
        var configuration = HTTPClient.Configuration(redirectConfiguration: .disallow, decompression: .disabled)
        configuration.timeout.connect = .seconds(10)
        configuration.httpVersion = .http1Only
        // Otherwise a refused connection is tried again for ten seconds before anybody hears of it.
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
        configuration.connectionPool.idleTimeout = TimeAmount(options.idleTimeout)
        let proxy = try options.proxy.proxy(to: address)
        configuration.proxy = proxy.map { proxy in
            let login = proxy.credentials.map { HTTPClient.Authorization.basic(credentials: $0) }
            return .server(host: proxy.host, port: proxy.port, authorization: login)
        }
        if address.isSecure {
            var tlsConfiguration = TLSConfiguration.makeClientConfiguration()
            if let path = options.certificateAuthorityPath { tlsConfiguration.trustRoots = .file(path) }
            configuration.tlsConfiguration = tlsConfiguration
            do {
                tls = try NIOSSLContext(configuration: tlsConfiguration)
            } catch {
                throw SpritesError(.invalidRequest, "cannot set up TLS: \(error)")
            }
        }
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        self.options = options
        http = HTTPTransport(
            address: address, token: token, userAgent: options.userAgent,
            client: HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration),
            onRequest: options.onRequest)
        pool = ConnectionPool(
            WebSocketDialer(
                address: address, token: token, userAgent: options.userAgent, group: group, tls: tls, proxy: proxy,
                onRequest: options.onRequest),
            ConnectionPool.Limits(
                connectionsMax: options.connectionsMax, idleConnectionsMax: options.idleConnectionsMax,
                idleTimeout: TimeAmount(options.idleTimeout)),
            requestTimeout: options.requestTimeout)
    }

    /// The base URL this client talks to.
    public var baseURL: String { http.address.text }

    /// Ends every connection and the event loop; running commands go on for as long as their sessions allow.
    public func close() async throws {
        guard markClosed() else { return }
        await pool.close()
        try await http.client.shutdown()
        try await group.shutdownGracefully()
    }

    /// - Returns: Whether it was open until now.
    private func markClosed() -> Bool {
        isClosed.withLockedValue { isClosed in
            defer { isClosed = true }
            return !isClosed
        }
    }

    deinit {
        guard markClosed() else { return }
        let (client, group) = (http.client, group)
        client.shutdown { _ in group.shutdownGracefully { _ in } }
    }

    /// Runs `body` with a client that is closed afterwards.
    public static func with<Result: Sendable>(
        baseURL: String? = nil, token: String? = nil, options: Options = Options(),
        _ body: (SpritesClient) async throws -> Result
    ) async throws -> Result {
        let client = try SpritesClient(baseURL: baseURL, token: token, options: options)
        let result: Swift.Result<Result, any Error>
        do {
            result = .success(try await body(client))
        } catch {
            result = .failure(error)
        }
        try await client.close()
        return try result.get()
    }

    // MARK: Sprites

    /// A handle for the sprite of that name; asks the server nothing.
    public func sprite(_ name: String) -> Sprite { Sprite(client: self, name: name, info: nil) }

    /// Makes a sprite and starts it.
    ///
    /// - Throws: ``SpritesError``: `.alreadyExists` if the name is taken, `.invalidRequest` for a bad name or limit.
    public func create(_ name: String, _ options: SpriteOptions = SpriteOptions()) async throws -> Sprite {
        let info = try await http.call(
            .POST, "/v1/sprites", options.body(name), as: SpriteInfo.self,
            timeout: self.options.requestTimeout)
        return Sprite(client: self, name: info.name, info: info)
    }

    /// Asks for a sprite.
    ///
    /// - Throws: ``SpritesError`` with `.notFound` if there is none of that name.
    public func get(_ name: String) async throws -> Sprite {
        let sprite = sprite(name)
        return Sprite(client: self, name: name, info: try await sprite.fetchInfo())
    }

    /// Hears of every sprite, and then of every change, until the server stops or the task is cancelled.
    public func watch(prefix: String = "", onEvent: (API.SpriteEvent) async throws -> Void) async throws {
        let query = prefix.isEmpty ? "" : "?" + API.Query([.init("prefix", prefix)]).encoded
        try await http.lines(
            .GET, "/v1/sprites\(query)", body: nil, accept: "application/x-ndjson", timeout: .seconds(365 * 86_400)
        ) { line in
            try await onEvent(try http.decoded(line, as: API.SpriteEvent.self))
        }
    }

    /// All sprites whose names begin with `prefix`, in name order, fetched page by page as they are read.
    public func list(prefix: String = "", pageSize: Int = 50) -> SpriteList {
        SpriteList(client: self, prefix: prefix, pageSize: pageSize)
    }
}
