// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

/// One request and its answer.
final class Exchange: Sendable {
    private struct State {
        var status: HTTPResponseStatus?
        var isComplete = false
        var mustClose: Bool
        var bytesOut = 0
        var errorCode: String?
        var grant: AccessGrant?
    }

    let id = String(UInt64.random(in: (1 << 60)...(.max)), radix: 16)
    let head: HTTPRequestHead
    let target: RequestTarget
    let parts: RequestParts
    let client: ClientConnection
    /// Set for a request that came from inside a sprite.
    let caller: InsideCaller?
    /// The span of this request, in the client's trace if it has one.
    let trace: TraceContext
    /// The client's span.
    let parent: SpanID?
    private let outbound: NIOAsyncChannelOutboundWriter<ResponsePart>
    private let version: String
    private let bodyTimeout: Duration
    private let state: NIOLockedValueBox<State>

    init(
        head: HTTPRequestHead, parts: RequestParts, outbound: NIOAsyncChannelOutboundWriter<ResponsePart>,
        service: APIService, client: ClientConnection, mustClose: Bool, caller: InsideCaller? = nil
    ) {
        self.caller = caller
        self.head = head
        self.parts = parts
        self.client = client
        self.outbound = outbound
        target = RequestTarget(head.uri)
        version = service.configuration.version
        bodyTimeout = service.configuration.timing.requestBody
        (trace, parent) = TraceContext.of(head.headers)
        state = NIOLockedValueBox(State(mustClose: mustClose || !head.isKeepAlive))
    }

    /// The method; HEAD is answered as GET without the body.
    var method: String { head.method == .HEAD ? "GET" : head.method.rawValue }

    /// The status that was sent, if one was.
    var status: HTTPResponseStatus? { state.withLockedValue { $0.status } }

    /// Whose token the request has, once that is known; nil for a request from inside.
    var grant: AccessGrant? {
        get { state.withLockedValue { $0.grant } }
        set { state.withLockedValue { $0.grant = newValue } }
    }

    /// Bytes of the answer's body.
    var bytesOut: Int { state.withLockedValue { $0.bytesOut } }

    /// The code of the error that was answered.
    var errorCode: String? { state.withLockedValue { $0.errorCode } }

    func note(_ error: any Error) {
        let code = (error as? SpriteError)?.code.rawValue ?? (error is CancellationError ? "cancelled" : "internal")
        state.withLockedValue { $0.errorCode = code }
    }

    /// Whether the connection can take another request.
    var canContinue: Bool { state.withLockedValue { $0.isComplete && !$0.mustClose } }

    // MARK: The request

    /// Reads a JSON body; nil if it is empty.
    func body<Body: Decodable>(_ type: Body.Type) async throws -> Body? {
        let buffer = try await collectBody()
        return buffer.readableBytes == 0 ? nil : try JSONBody.decode(type, from: buffer)
    }

    /// Reads a JSON body that must be there.
    func requiredBody<Body: Decodable>(_ type: Body.Type) async throws -> Body {
        guard let body = try await body(type) else {
            throw SpriteError(.invalidRequest, "cannot read the request body: it is empty, a JSON object is needed")
        }
        return body
    }

    private func collectBody() async throws -> ByteBuffer {
        let limit = Limits.jsonBodyBytesMax
        if let length = head.headers.first(name: "content-length").flatMap(Int.init), length > limit {
            throw tooLarge("it is \(length) bytes")
        }
        try await sendContinue()
        // Inside, another deadline covers whole requests.
        let channel = caller == nil ? client.channel : nil
        let deadline = channel?.eventLoop.scheduleTask(in: TimeAmount(bodyTimeout)) { channel?.close(promise: nil) }
        defer { deadline?.cancel() }
        var collected = ByteBuffer()
        while var piece = try await parts.nextBody() {
            guard collected.readableBytes + piece.readableBytes <= limit else { throw tooLarge("it is larger") }
            collected.writeBuffer(&piece)
        }
        return collected
    }

    private func tooLarge(_ fact: String) -> SpriteError {
        // The rest is not read: the connection ends after the answer.
        state.withLockedValue { $0.mustClose = true }
        return SpriteError(
            .tooLarge, "cannot read the request body: \(fact), the limit is \(Limits.jsonBodyBytesMax) bytes")
    }

    /// Tells a client that waits for it to send its body.
    func sendContinue() async throws {
        guard head.headers.first(name: "expect")?.lowercased() == "100-continue" else { return }
        try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: .continue)))
    }

    // MARK: The answer

    /// Sends a whole answer.
    func send(_ status: HTTPResponseStatus, _ headers: HTTPHeaders = [:], body: ByteBuffer? = nil) async throws {
        var headers = headers
        if status != .noContent { headers.add(name: "content-length", value: "\(body?.readableBytes ?? 0)") }
        var parts = [ResponsePart.head(responseHead(status, headers))]
        if let body, head.method != .HEAD { parts.append(.body(body)) }
        parts.append(.end(nil))
        try await outbound.write(contentsOf: parts)
        state.withLockedValue { state in
            state.isComplete = true
            if head.method != .HEAD { state.bytesOut = body?.readableBytes ?? 0 }
        }
    }

    /// Sends an object as JSON.
    func send(_ status: HTTPResponseStatus = .ok, json value: some Encodable, _ headers: HTTPHeaders = [:]) async throws
    {
        var headers = headers
        headers.add(name: "content-type", value: "application/json")
        try await send(status, headers, body: try JSONBody.encode(value))
    }

    /// Begins an answer whose body follows piece by piece; each piece is sent at once, as one chunk.
    func begin(_ headers: HTTPHeaders, status: HTTPResponseStatus = .ok, closing: Bool = false) async throws {
        if closing { state.withLockedValue { $0.mustClose = true } }
        try await outbound.write(.head(responseHead(status, headers)))
    }

    func write(_ pieces: [ByteBuffer]) async throws {
        try await outbound.write(contentsOf: pieces.map { .body($0) })
        state.withLockedValue { $0.bytesOut += pieces.reduce(0) { $0 + $1.readableBytes } }
    }

    func end() async throws {
        try await outbound.write(.end(nil))
        state.withLockedValue { $0.isComplete = true }
    }

    /// Passes a service's answer on, as far as it came.
    func relay(_ parts: [ResponsePart]) async throws {
        var parts = parts
        var bytes = 0
        var isComplete = false
        for index in parts.indices {
            switch parts[index] {
            case .head(var answer):
                // Without chunks, only the end of the connection tells the end of a body.
                if head.version != .http1_1 { closeAfterwards() }
                answer.version = head.version == .http1_1 ? .http1_1 : .http1_0
                let mustClose = state.withLockedValue { state in
                    state.status = answer.status
                    return state.mustClose
                }
                if mustClose { answer.headers.add(name: "connection", value: "close") }
                parts[index] = .head(answer)
            case .body(let body): bytes += body.readableBytes
            case .end: isComplete = true
            }
        }
        try await outbound.write(contentsOf: parts)
        state.withLockedValue { [bytes, isComplete] state in
            state.bytesOut += bytes
            if isComplete { state.isComplete = true }
        }
    }

    /// The connection takes no request after this one.
    func closeAfterwards() { state.withLockedValue { $0.mustClose = true } }

    private func responseHead(_ status: HTTPResponseStatus, _ headers: HTTPHeaders) -> HTTPResponseHead {
        var headers = headers
        headers.add(name: "x-request-id", value: id)
        headers.add(name: "sprite-version", value: version)
        headers.add(name: "traceparent", value: trace.traceparent)
        let mustClose = state.withLockedValue { state in
            state.status = status
            return state.mustClose
        }
        if mustClose { headers.add(name: "connection", value: "close") }
        return HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    }
}
