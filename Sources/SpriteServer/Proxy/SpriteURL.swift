// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteProxy

/// A sprite that is awake, with a connection to the service behind its URL.
struct SpriteTarget: Sendable {
    /// Keeps it awake until it goes.
    let use: any SpriteUse
    let connection: TargetConnection
    let port: Int
}

/// Why a sprite stays asleep although somebody wants its page.
struct CannotWake: Error {
    let reason: SpriteError
}

/// What requests to sprites' URLs need: the sprite, the right to use it, and a connection to its service.
extension APIService {
    /// Where requests go if no service says otherwise.
    private static let defaultPort = 8080
    /// How long a service that is being started may take to listen.
    private static let startPatience: Duration = .seconds(10)

    /// Throws what the caller is to be told: `.notFound`, `.unauthorized`.
    ///
    /// - Returns: The grant is nil where the sprite asks for none.
    func checkAccess(_ text: String, _ head: HTTPRequestHead) async throws -> (name: SpriteName, grant: AccessGrant?) {
        // What a service does with a request is its own affair, so that reading is not enough.
        func authorize() throws -> AccessGrant {
            let grant = try authenticate(head.headers)
            try grant.require(text, toWrite: true)
            return grant
        }
        do {
            let name = try spriteName(text)
            guard try await control.get(name).sprite.urlAuthentication == .sprite else { return (name, nil) }
            // A browser adds the sign-in by itself, whoever's page makes it ask.
            try rules.checkOrigin(head)
            return (name, try authorize())
        } catch let error as SpriteError where error.code == .notFound {
            // Which sprites exist is not for strangers to know.
            _ = try authorize()
            throw error
        }
    }

    /// Wakes the sprite and connects; `kept` is used again if it still fits.
    ///
    /// Throws `.badGateway` if nothing listens, and ``CannotWake``.
    func target(_ name: SpriteName, kept: SpriteTarget? = nil, on eventLoop: any EventLoop) async throws -> SpriteTarget
    {
        let use: any SpriteUse
        do {
            use = try await control.use(name)
        } catch let error as SpriteError where error.code != .notFound {
            throw CannotWake(reason: error)
        }
        let port = try await configuration.services?.httpPort(name) ?? Self.defaultPort
        if let kept, kept.use.id == use.id, kept.use.processID == use.processID, kept.port == port,
            await kept.connection.isIdle()
        {
            return SpriteTarget(use: use, connection: kept.connection, port: port)
        }
        let socket = try await dial(name, use, port)
        do {
            let connection = try await TargetConnection.make(socket, isHTTP: true, on: eventLoop)
            return SpriteTarget(use: use, connection: connection, port: port)
        } catch {
            throw SpriteError(.badGateway, "cannot reach port \(port) of sprite '\(name)'", cause: error)
        }
    }

    private func dial(_ name: SpriteName, _ use: any SpriteUse, _ port: Int) async throws -> SpriteSocket {
        let start = ContinuousClock.now
        while true {
            do throws(SpriteDialer.Failure) {
                return try await SpriteDialer.dial(
                    use, addresses: [.loopback4, .loopback6], port: UInt16(clamping: port), timeout: Limits.dialTimeout)
            } catch {
                guard case .refused = error, ContinuousClock.now - start < Self.startPatience,
                    await isStarting(name, port)
                else {
                    if case .spriteGone = error {
                        throw SpriteError(.unavailable, "cannot reach sprite '\(name)': it has just stopped; try again")
                    }
                    throw SpriteError(
                        .badGateway,
                        "cannot reach port \(port) of sprite '\(name)': \(error); start a server there, or define a service "
                            + "with an http_port")
                }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    /// Whether a service that is to listen there runs, or is about to.
    private func isStarting(_ name: SpriteName, _ port: Int) async -> Bool {
        guard let views = try? await configuration.services?.services(name) else { return false }
        return views.contains { $0.definition.httpPort == port && ($0.status == .starting || $0.status == .running) }
    }

    /// The request as the service gets it.
    ///
    /// - Parameter isUpgrade: Keeps what asks for another protocol.
    func forwarded(_ head: HTTPRequestHead, isUpgrade: Bool, client: SocketAddress?) -> HTTPRequestHead {
        var forwarded = HTTPRequestHead(version: .http1_1, method: head.method, uri: originForm(head.uri))
        var headers = withoutHopByHop(head.headers)
        headers.remove(name: "expect")
        // A service must not get hold of the token of this server.
        if let token = Authentication.token(headers), configuration.grant(token) != nil {
            headers.remove(name: "authorization")
        }
        let host = head.headers.first(name: "host") ?? ""
        let chain = headers["x-forwarded-for"] + [client?.ipAddress ?? "unknown"]
        headers.replaceOrAdd(name: "x-forwarded-for", value: chain.joined(separator: ", "))
        if !headers.contains(name: "x-forwarded-host") { headers.add(name: "x-forwarded-host", value: host) }
        if !headers.contains(name: "x-forwarded-proto") {
            headers.add(name: "x-forwarded-proto", value: configuration.certificate == nil ? "http" : "https")
        }
        if isUpgrade {
            headers.add(name: "connection", value: "Upgrade")
            for value in head.headers["upgrade"] { headers.add(name: "upgrade", value: value) }
        } else if head.headers.contains(name: "transfer-encoding") {
            headers.remove(name: "content-length")
            headers.add(name: "transfer-encoding", value: "chunked")
        } else if !headers.contains(name: "content-length"), head.method != .GET, head.method != .HEAD {
            // Otherwise the encoder would announce a body of unknown length.
            headers.add(name: "content-length", value: "0")
        }
        forwarded.headers = headers
        return forwarded
    }

    /// RFC 9112 §3.2.2: a request line may hold a whole URL, which servers behind a proxy need not understand.
    private func originForm(_ uri: String) -> String {
        guard !uri.hasPrefix("/"), uri != "*", let scheme = uri.firstRange(of: "://") else { return uri }
        let path = uri[scheme.upperBound...].drop { $0 != "/" && $0 != "?" }
        return path.hasPrefix("/") ? String(path) : "/" + path
    }

    /// RFC 9110 §7.6.1: what is about one connection is not passed on, nor what `Connection` names.
    func withoutHopByHop(_ headers: HTTPHeaders) -> HTTPHeaders {
        var kept = HTTPHeaders()
        kept.reserveCapacity(headers.count + 4)
        let named = Set(headers[canonicalForm: "connection"].map { $0.lowercased() })
        for (name, value) in headers {
            let lower = name.lowercased()
            if !hopByHop.contains(lower), !named.contains(lower) { kept.add(name: name, value: value) }
        }
        return kept
    }
}

typealias SpriteSocket = SpriteDialer.Socket

private let hopByHop: Set<String> = [
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "transfer-encoding", "upgrade",
]
