// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteMCP

extension APIService {
    /// Answers one request; every way out ends in an answer, as far as the connection still carries one, and a line
    /// in the log.
    ///
    /// - Parameter first: For the first request of its connection.
    func respond(to exchange: Exchange, first: FirstRequest?) async {
        // A host name means nothing inside: the socket says which sprite it is.
        if exchange.caller == nil, let sprite = spriteHosts?.name(exchange.head.headers.first(name: "host")) {
            return await respondFromSprite(sprite, to: exchange, first: first)
        }
        let start = ContinuousClock.now
        let time = Timestamp.now()
        await TraceContext.$current.withValue(exchange.trace) {
            do {
                if let refusal = first?.refusal { throw refusal }
                if let caller = exchange.caller {
                    try await dispatchInside(exchange, caller)
                } else {
                    try await dispatch(exchange)
                }
            } catch {
                exchange.note(error)
                await answer(error, to: exchange)
            }
        }
        // A sprite that asks too fast must not fill the log with it.
        if exchange.caller != nil, exchange.status == .tooManyRequests { return }
        record(exchange, time: time, since: start)
        log(
            method: exchange.head.method, path: exchange.target.path, status: exchange.status?.code, id: exchange.id,
            since: start, caller: exchange.caller)
    }

    private func answer(_ error: any Error, to exchange: Exchange) async {
        guard exchange.status == nil else {
            // The answer has begun: only ending the connection can tell that it is not whole.
            logger.debug("answer broken off", metadata: ["request.id": "\(exchange.id)", "error": "\(error)"])
            return
        }
        // The client has gone, perhaps in the middle of its body: nobody is left to be told, and it is no fault of ours.
        if error is ChannelError || error is IOError || (error as? HTTPParserError) == .invalidEOFState {
            logger.debug("client left", metadata: ["request.id": "\(exchange.id)", "error": "\(error)"])
            return
        }
        let reply = ErrorReply(error, requestID: exchange.id, logger: logger)
        var headers = reply.headers
        if reply.status == .unauthorized { headers.add(name: "www-authenticate", value: "Bearer") }
        if reply.status == .methodNotAllowed, let route = exchange.target.segments.flatMap(Route.init) {
            headers.add(name: "allow", value: route.methods.joined(separator: ", "))
        }
        if reply.status == .tooManyRequests, !headers.contains(name: "retry-after") {
            headers.add(name: "retry-after", value: "1")
        }
        try? await exchange.send(reply.status, json: reply.body, headers)
    }

    /// One line a request; never the query, headers or bodies, which hold commands and tokens.
    func log(
        method: HTTPMethod, path: String, status: UInt?, id: String, since start: ContinuousClock.Instant,
        caller: InsideCaller? = nil
    ) {
        let milliseconds = (ContinuousClock.now - start).milliseconds
        var metadata: Logger.Metadata = [
            "http.request.method": "\(method.rawValue)", "url.path": "\(path)",
            "http.response.status_code": "\(status ?? 0)", "duration.ms": "\(milliseconds)", "request.id": "\(id)",
        ]
        if let caller { metadata["sprite.id"] = "\(caller.sprite)" }
        // What a sprite asks of itself is no news for the host; the journal has it.
        logger.log(level: caller == nil ? .info : .debug, "request", metadata: metadata)
    }

    private func dispatch(_ exchange: Exchange) async throws {
        let route = exchange.target.segments.flatMap(Route.init)
        try exchange.head.checkHeaderLimits()
        var grant: AccessGrant?
        if route != .health {
            try requests.take(exchange.client.address)
            try rules.checkHost(exchange.head.headers)
            try rules.checkOrigin(exchange.head)
            grant = try authenticate(exchange.head.headers)
            exchange.grant = grant
        }
        guard let route else {
            throw SpriteError(
                .notFound,
                "cannot find '\(exchange.target.path)': the server has no such path; docs/openapi.yaml lists them")
        }
        let method = exchange.method
        if let grant { try route.check(grant, method: method) }
        if case .notServed(let text, let what) = route {
            _ = try await control.get(spriteName(text))
            throw SpriteError(.notFound, "\(what) not served by this version of the server")
        }
        guard route.methods.contains(method) else {
            throw SpriteError(
                .methodNotAllowed, "cannot \(method) this path: use \(route.methods.joined(separator: ", "))")
        }
        guard let grant, let channel = exchange.client.channel else { return try await perform(route, exchange) }
        live.begin(grant, channel)
        defer { live.end(grant, channel) }
        try await RequestOrigin.$current.withValue(.token(grant.tokenID)) { try await perform(route, exchange) }
    }

    /// Does what a path and a method that it has ask for; who asks was checked before.
    func perform(_ route: Route, _ exchange: Exchange) async throws {
        switch (route, exchange.method) {
        case (.health, _): try await health(exchange)
        case (.mcp, _): try await serveMCP(exchange, .outside(exchange.grant))
        case (.metrics, _): try await metrics(exchange)
        case (.allLogs, _): try await logs(exchange, of: nil)
        case (.logs(let text), _): try await logs(exchange, of: try spriteName(text))
        case (.logQuery, _): try await queryLogs(exchange)
        case (.trace(let id, let text), _): try await trace(exchange, id, of: try text.map(spriteName))
        case (.sprites, "GET"): try await listSprites(exchange)
        case (.sprites, _): try await createSprite(exchange)
        case (.sprite(let text), "GET"): try await getSprite(exchange, try spriteName(text))
        case (.sprite(let text), "PUT"): try await updateSprite(exchange, try spriteName(text))
        case (.sprite(let text), _): try await destroySprite(exchange, try spriteName(text))
        case (.disk(let text), _): try await diskUse(exchange, try spriteName(text))
        case (.upgrade(let text), _): try await upgradeSprite(exchange, try spriteName(text))
        case (.stop(let text), _): try await stopSprite(exchange, try spriteName(text))
        case (.restart(let text), _): try await restartSprite(exchange, try spriteName(text))
        case (.check(let text), _): try await checkSprite(exchange, try spriteName(text))
        case (.fork(let text), _): try await forkSprite(exchange, try spriteName(text))
        case (.base(let text), _): try await upgradeBase(exchange, try spriteName(text))
        case (.exec(let text), "GET"): try await listSessions(exchange, try spriteName(text))
        case (.exec(let text), _): try await execOverHTTP(exchange, try spriteName(text))
        case (.session(let text, _), _): try await getSession(exchange, try spriteName(text))
        case (.killSession(let text, let id), _): try await killSession(exchange, try spriteName(text), id)
        case (.createCheckpoint(let text), _): try await createCheckpoint(exchange, try spriteName(text))
        case (.checkpoints(let text), _): try await listCheckpoints(exchange, try spriteName(text))
        case (.checkpoint(let text, let id), "DELETE"): try await deleteCheckpoint(exchange, try spriteName(text), id)
        case (.checkpoint(let text, let id), _): try await getCheckpoint(exchange, try spriteName(text), id)
        case (.restore(let text, let id), _): try await restore(exchange, try spriteName(text), id)
        case (.pin(let text, let id), _): try await pin(exchange, try spriteName(text), id)
        case (.diff(let text), _): try await diff(exchange, try spriteName(text))
        case (.attempt(let text), _): try await attempt(exchange, try spriteName(text))
        case (.race(let text), _): try await race(exchange, try spriteName(text))
        case (.bisect(let text), _): try await bisect(exchange, try spriteName(text))
        case (.undoRestore(let text), _): try await undoRestore(exchange, try spriteName(text))
        case (.services(let text, let route), _): try await serve(exchange, try spriteName(text), route)
        case (.policy(let text, let kind), _): try await serve(exchange, try spriteName(text), policy: kind)
        case (.tasks(let text), _): try await serveTasks(exchange, try spriteName(text))
        case (.task(let text, let task), _): try await serveTask(exchange, try spriteName(text), task)
        case (.secrets(let text), _): try await listSecrets(exchange, try spriteName(text))
        case (.secret(let text, let id), _): try await serveSecret(exchange, try spriteName(text), id)
        case (.networkContacts(let text), _): try await listContacts(exchange, try spriteName(text))
        case (.networkSuggestion(let text), _): try await suggestPolicy(exchange, try spriteName(text))
        case (.control(let text), _), (.proxy(let text), _), (.portWatch(let text), _):
            try await requireUpgrade(exchange, try spriteName(text), route)
        case (.files(let text, let operation), _): try await files(exchange, try spriteName(text), operation)
        case (.notServed, _): break
        }
    }

    /// A sprite's name in a path; one that breaks the rules cannot exist.
    func spriteName(_ text: String) throws -> SpriteName {
        guard let name = try? SpriteName(text) else {
            throw SpriteError(.notFound, "there is no sprite named '\(text.prefix(Limits.spriteNameBytesMax))'")
        }
        return name
    }

    private func health(_ exchange: Exchange) async throws {
        try await exchange.send(json: ["status": "ok", "version": configuration.version])
    }
}

extension Duration {
    /// Milliseconds, rounded to microseconds.
    var milliseconds: Double {
        let parts = components
        return Double(parts.seconds) * 1000 + Double(parts.attoseconds / 1_000_000_000_000) / 1000
    }
}
