// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import SpriteProxy

extension APIService {
    /// How long the rest of a request's body is read away after its answer, so that the client gets the answer and no
    /// reset.
    private static let discardTimeout: Duration = .seconds(2)

    /// Answers a request to a sprite's URL.
    func respondFromSprite(_ text: String, to exchange: Exchange, first: FirstRequest?) async {
        let (start, time) = (ContinuousClock.now, Timestamp.now())
        let (trace, parent) = TraceContext.of(exchange.head.headers)
        // Cancelled when the client goes; awaited right below.
        let work = TraceContext.$current.withValue(trace) {
            Task {
                do {
                    if let refusal = first?.refusal { throw refusal }
                    try await forward(text, exchange, answered: first?.takeAnswered())
                } catch {
                    await sendPage(error, exchange)
                }
            }
        }
        exchange.client.onLeave { work.cancel() }
        await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        exchange.client.onLeave(nil)
        recordFromSprite(
            text, exchange.head, exchange.client.address, status: exchange.status?.code ?? 0,
            bytesOut: exchange.bytesOut, since: start, time: time, id: exchange.id, trace: trace, parent: parent)
        logger.debug(
            "request to a sprite",
            metadata: [
                "http.request.method": "\(exchange.head.method.rawValue)", "server.address": "\(text)",
                "http.response.status_code": "\(exchange.status?.code ?? 0)", "request.id": "\(exchange.id)",
                "duration.ms": "\((ContinuousClock.now - start).milliseconds)",
            ])
    }

    private func forward(_ text: String, _ exchange: Exchange, answered: AnsweredUpgrade?) async throws {
        try exchange.head.checkHeaderLimits()
        if let answered {
            return try await relay(answered.target, exchange, begun: answered.parts)
        }
        let head = exchange.head
        let (name, grant) = try await checkAccess(text, head)
        if let grant, let channel = exchange.client.channel { live.begin(grant, channel) }
        defer { if let grant, let channel = exchange.client.channel { live.end(grant, channel) } }
        let hasBody =
            head.headers.contains(name: "transfer-encoding")
            || head.headers.first(name: "content-length").map { $0 != "0" } == true
        // A kept connection may turn out to be closed, and a body cannot be sent twice.
        var kept = hasBody ? nil : exchange.client.takeKept()
        while true {
            let target = try await target(name, kept: kept, on: exchange.client.eventLoop)
            let outgoing = forwarded(head, isUpgrade: false, client: exchange.client.address)
            if hasBody {
                try await exchangeWithBody(target, outgoing, exchange)
                return
            }
            do {
                try await target.connection.write(.head(outgoing), .end(nil))
                let parts = try await firstParts(target)
                try await relay(target, exchange, begun: parts)
                return
            } catch let error as NoAnswer where kept != nil && !Task.isCancelled {
                logger.trace("kept connection was closed", metadata: ["error": "\(error)"])
                kept = nil
            } catch is ChannelError where kept != nil && exchange.status == nil && !Task.isCancelled {
                kept = nil
            } catch let error as IOError where kept != nil && exchange.status == nil && !Task.isCancelled {
                logger.trace("kept connection was closed", metadata: ["error": "\(error)"])
                kept = nil
            }
        }
    }

    /// Sends the body and the answer side by side: a service may answer before it has read everything.
    ///
    /// The body is never left being read when this returns: the connection's next request comes from the same stream.
    private func exchangeWithBody(_ target: SpriteTarget, _ head: HTTPRequestHead, _ exchange: Exchange) async throws {
        try await target.connection.write(.head(head))
        try await exchange.sendContinue()
        let isAnswered = NIOLockedValueBox(false)
        let isSent = NIOLockedValueBox(false)
        // Awaited below, always.
        let pump = Task {
            var isTaken = true
            do {
                while let bytes = try await exchange.parts.nextBody() {
                    if isAnswered.withLockedValue({ $0 }) { isTaken = false }
                    // A service that reads no further may have answered; what is left is thrown away.
                    if isTaken { isTaken = (try? await target.connection.write(.body(bytes))) != nil }
                }
                if isTaken { try await target.connection.write(.end(nil)) }
                isSent.withLockedValue { $0 = true }
            } catch {
                // The client broke off: the service must not take half a body for a whole one.
                target.connection.close()
            }
        }
        let result: Result<Void, any Error>
        do {
            let parts = try await firstParts(target)
            result = .success(try await relay(target, exchange, begun: parts))
        } catch {
            result = .failure(error)
        }
        isAnswered.withLockedValue { $0 = true }
        if !isSent.withLockedValue({ $0 }) {
            // Awaited by nobody: it only cuts the wait below short.
            let deadline = Task {
                guard (try? await Task.sleep(for: Self.discardTimeout)) != nil else { return }
                pump.cancel()
            }
            if Task.isCancelled { pump.cancel() }
            await pump.value
            deadline.cancel()
            // A service may answer with the last byte, before the body's end was seen here: then the connection is as
            // good as any. Only one whose body was not read to its end takes no other request.
            if !isSent.withLockedValue({ $0 }) { exchange.closeAfterwards() }
        }
        await pump.value
        try result.get()
    }

    /// The service ended the connection instead of answering.
    private struct NoAnswer: Error {}

    private func firstParts(_ target: SpriteTarget) async throws -> [TargetConnection.Part] {
        do {
            let parts = try await target.connection.next()
            guard !parts.isEmpty else { throw NoAnswer() }
            return parts
        } catch is ChannelError {
            throw NoAnswer()
        } catch is IOError {
            throw NoAnswer()
        }
    }

    /// Passes the answer on, part by part as it comes.
    private func relay(_ target: SpriteTarget, _ exchange: Exchange, begun: [TargetConnection.Part]) async throws {
        var parts = begun
        while true {
            var isComplete = false
            let outgoing: [ResponsePart] = parts.map { part in
                switch part {
                case .head(let head):
                    return .head(answerHead(head))
                case .bytes(let bytes):
                    return .body(bytes)
                case .end(let trailers):
                    isComplete = true
                    return .end(trailers)
                }
            }
            try await exchange.relay(outgoing)
            if isComplete { break }
            parts = try await target.connection.next()
            guard !parts.isEmpty else { throw ChannelError.inputClosed }
        }
        exchange.client.keep(target)
        target.use.end()
    }

    private func answerHead(_ head: HTTPResponseHead) -> HTTPResponseHead {
        HTTPResponseHead(version: .http1_1, status: head.status, headers: withoutHopByHop(head.headers))
    }

    // MARK: Pages

    private func sendPage(_ error: any Error, _ exchange: Exchange) async {
        guard exchange.status == nil else {
            logger.debug("answer broken off", metadata: ["request.id": "\(exchange.id)", "error": "\(error)"])
            return
        }
        if Task.isCancelled { return }
        let isAsleep = error is CannotWake
        var error = (error as? CannotWake)?.reason ?? error
        if error is NoAnswer || error is ChannelError || error is IOError || error is HTTPParserError {
            error = SpriteError(.badGateway, "the server in the sprite closed the connection without an answer")
        }
        let reply = ErrorReply(error, requestID: exchange.id, logger: logger)
        var headers = reply.headers
        headers.add(name: "cache-control", value: "no-store")
        // A browser asks for the password then: the user is `bearer`, the password the token.
        if reply.status == .unauthorized { headers.add(name: "www-authenticate", value: #"Basic realm="sprite""#) }
        if reply.status == .serviceUnavailable, !headers.contains(name: "retry-after") {
            headers.add(name: "retry-after", value: "1")
        }
        do {
            guard exchange.head.headers["accept"].contains(where: { $0.lowercased().contains("text/html") }) else {
                return try await exchange.send(reply.status, json: reply.body, headers)
            }
            headers.add(name: "content-type", value: "text/html; charset=utf-8")
            try await exchange.send(reply.status, headers, body: ErrorPage(reply, isAsleep: isAsleep).html)
        } catch {
            logger.debug("page not sent", metadata: ["error": "\(error)"])
        }
    }
}
