// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import AsyncHTTPClient
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Sends JSON requests and turns failures into ``SpritesError``.
struct HTTPTransport: Sendable {
    let address: ServerAddress
    let token: String
    let userAgent: String
    let client: HTTPClient
    let onRequest: (@Sendable (String) -> Void)?

    /// The largest answer taken into memory; a page of fifty sprites is some 50 KB.
    static let answerBytesMax = 64 << 20
    /// A line of an event stream; the contract asks for less than 64 KiB.
    static let lineBytesMax = 1 << 20

    struct Answer {
        var status: Int
        var body: ByteBuffer
    }

    /// How long to wait before a read whose connection was lost is tried again, each time: nine seconds in all.
    static let readWaits: [Duration] = [
        .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .milliseconds(1500),
        .seconds(2), .seconds(2), .seconds(2),
    ]

    /// Sends a request and reads the answer whole. A read whose connection was lost is tried again for some seconds.
    ///
    /// - Throws: ``SpritesError``; any status of 400 and above is one.
    func send(
        _ method: HTTPMethod, _ path: String, body: [UInt8]? = nil, type: String = "application/json",
        timeout: Duration
    ) async throws -> Answer {
        guard method == .GET else { return try await sendOnce(method, path, body, type, timeout) }
        var wasLost = false
        for wait in Self.readWaits {
            do {
                return try await sendOnce(method, path, body, type, timeout)
            } catch let error as SpritesError
                where [.connectionLost, .cannotConnect, .unavailable].contains(error.code)
            {
                // A server that was never there is told at once.
                wasLost = wasLost || error.code == .connectionLost
                guard wasLost else { throw error }
            }
            try await Task.sleep(for: wait)
        }
        return try await sendOnce(method, path, body, type, timeout)
    }

    private func sendOnce(
        _ method: HTTPMethod, _ path: String, _ body: [UInt8]?, _ type: String, _ timeout: Duration
    ) async throws -> Answer {
        try await mapped(method, path) {
            let response = try await client.execute(request(method, path, body, type), deadline: deadline(timeout))
            let buffer = try await response.body.collect(upTo: Self.answerBytesMax)
            let status = Int(response.status.code)
            guard status < 400 else { throw serverError(status: status, headers: response.headers, body: buffer) }
            return Answer(status: status, body: buffer)
        }
    }

    func get<Value: Decodable>(_ path: String, as type: Value.Type, timeout: Duration) async throws -> Value {
        try decoded(try await send(.GET, path, timeout: timeout).body, as: type)
    }

    func call<Value: Decodable>(
        _ method: HTTPMethod, _ path: String, _ body: some Encodable, as type: Value.Type, timeout: Duration
    ) async throws -> Value {
        try decoded(try await send(method, path, body: try encoded(body), timeout: timeout).body, as: type)
    }

    /// Sends a request and hands out every line of its NDJSON answer as it comes.
    func lines(
        _ method: HTTPMethod, _ path: String, body: [UInt8]?, accept: String? = nil, timeout: Duration,
        onLine given: (ByteBuffer) async throws -> Void
    ) async throws {
        func onLine(_ line: ByteBuffer) async throws {
            do { try await given(line) } catch { throw CallerFailure(error: error) }
        }
        try await mapped(method, path) {
            var request = request(method, path, body)
            if let accept { request.headers.add(name: "Accept", value: accept) }
            let response = try await client.execute(request, deadline: deadline(timeout))
            let status = Int(response.status.code)
            guard status < 400 else {
                let buffer = try await response.body.collect(upTo: Self.answerBytesMax)
                throw serverError(status: status, headers: response.headers, body: buffer)
            }
            var pending = ByteBuffer()
            for try await var part in response.body {
                pending.writeBuffer(&part)
                while let end = pending.readableBytesView.firstIndex(of: 0x0A) {
                    let length = end - pending.readerIndex
                    guard let line = pending.readSlice(length: length) else { break }
                    pending.moveReaderIndex(forwardBy: 1)
                    if length > 0 { try await onLine(line) }
                }
                pending.discardReadBytes()
                guard pending.readableBytes <= Self.lineBytesMax else {
                    throw SpritesError(
                        .invalidResponse, "cannot read events: a line is longer than \(Self.lineBytesMax) bytes")
                }
            }
            if pending.readableBytes > 0 { try await onLine(pending) }
        }
    }

    // MARK: JSON

    func encoded(_ body: some Encodable) throws -> [UInt8] { Array(try JSONEncoder().encode(body)) }

    func decoded<Value: Decodable>(_ body: ByteBuffer, as type: Value.Type) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(body.readableBytesView))
        } catch {
            throw SpritesError(
                .invalidResponse,
                "cannot read the server's answer: it is not what the API describes; is \(address.text) a Sprites API?")
        }
    }

    // MARK: Requests

    func request(
        _ method: HTTPMethod, _ path: String, _ body: [UInt8]?, _ type: String = "application/json"
    ) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: address.text + path)
        request.method = method
        request.headers.add(name: "Authorization", value: "Bearer \(token)")
        request.headers.add(name: "User-Agent", value: userAgent)
        if let body {
            request.headers.add(name: "Content-Type", value: type)
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        return request
    }

    func deadline(_ timeout: Duration) -> NIODeadline { .now() + TimeAmount(timeout) }

    func mapped<Result>(
        _ method: HTTPMethod, _ path: String, _ body: () async throws -> Result
    ) async throws -> Result {
        let start = ContinuousClock.now
        do {
            let result = try await body()
            onRequest?(requestLine("\(method)", path, "ok", since: start))
            return result
        } catch is CancellationError {
            throw CancellationError()
        } catch let failure as CallerFailure {
            throw failure.error
        } catch {
            if Task.isCancelled { throw CancellationError() }
            var error = connectionError(error, address: address)
            // A read has changed nothing, whatever became of it.
            if error.code == .connectionLost { error.mayBeRunning = method != .GET }
            onRequest?(requestLine("\(method)", path, "\(error.status ?? 0) \(error.code.rawValue)", since: start))
            throw error
        }
    }
}

/// What a function of the caller threw: it is no failure of a request, and is thrown on as it is.
private struct CallerFailure: Error {
    let error: any Error
}

/// A line about a request that was made; never its query, which may hold arguments and variables.
func requestLine(_ method: String, _ path: String, _ result: String, since start: ContinuousClock.Instant) -> String {
    let milliseconds = (ContinuousClock.now - start) / .microseconds(100)
    let path = path.split(separator: "?").first.map(String.init) ?? path
    return "\(method) \(path): \(result), \((milliseconds).rounded() / 10) ms"
}

/// An answer with an error status, as an error.
func serverError(status: Int, headers: HTTPHeaders, body: ByteBuffer) -> SpritesError {
    struct Body: Decodable {
        var error: String?
        var message: String?
        var code: String?
        var path: String?
        var retry_after_seconds: Double?
    }
    let parsed = try? JSONDecoder().decode(Body.self, from: Data(body.readableBytesView))
    let text = String(buffer: body).prefix(2000)
    let plain = text.split(separator: "\n").first.map(String.init)
    let retry = headers.first(name: "Retry-After").flatMap(Double.init) ?? parsed?.retry_after_seconds
    if let parsed, let code = parsed.code, let path = parsed.path {
        var error = SpritesError(
            SpritesError.Code(rawValue: code), "\(path): \(parsed.error ?? code)", status: status,
            requestID: headers.first(name: "X-Request-Id"))
        error.path = path
        return error
    }
    let code = parsed?.error.flatMap { $0.contains(" ") ? nil : $0 } ?? defaultCode(status)
    return SpritesError(
        SpritesError.Code(rawValue: code),
        parsed?.message ?? parsed?.error ?? plain ?? "the server answered \(status)", status: status,
        requestID: headers.first(name: "X-Request-Id"),
        retryAfter: retry.flatMap { $0 >= 0 && $0 < 1e9 ? .milliseconds(Int64($0 * 1000)) : nil })
}

private func defaultCode(_ status: Int) -> String {
    switch status {
    case 400: "invalid_request"
    case 401, 403: "unauthorized"
    case 404: "not_found"
    case 409: "conflict"
    case 410: "gone"
    case 413: "too_large"
    case 429: "limit_reached"
    case 501: "unsupported"
    case 503: "unavailable"
    case 504: "timeout"
    case 507: "no_space"
    default: status >= 500 ? "internal" : "invalid_request"
    }
}

/// What a failed or broken connection means for the caller.
func connectionError(_ error: any Error, address: ServerAddress) -> SpritesError {
    let place = address.text
    switch error {
    case let error as SpritesError:
        return error
    case let error as NIOConnectionError:
        let reason =
            if let dns = error.dnsAError ?? error.dnsAAAAError, error.connectionErrors.isEmpty {
                "the name cannot be resolved (\(dns))"
            } else {
                error.connectionErrors.first.map { reasonText($0.error) } ?? "no address answered"
            }
        return SpritesError(.cannotConnect, "cannot connect to \(place): \(reason)")
    case let error as HTTPClientError where error == .connectTimeout || error == .getConnectionFromPoolTimeout:
        return SpritesError(.cannotConnect, "cannot connect to \(place): no answer in time")
    case let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout:
        return SpritesError(.timeout, "no answer from \(place) in time")
    case let error as HTTPClientError where error == .invalidURL:
        return SpritesError(.invalidRequest, "invalid API URL \"\(place)\"")
    case let error as IOError where error.errnoCode == ECONNREFUSED:
        return SpritesError(.cannotConnect, "cannot connect to \(place): \(reasonText(error))")
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError:
        return SpritesError(.cannotConnect, "cannot connect to \(place): TLS failed (\(error))")
    case let error as ChannelError:
        if case .connectTimeout = error {
            return SpritesError(.cannotConnect, "cannot connect to \(place): no answer in time")
        }
        return SpritesError(.connectionLost, "the connection to \(place) was lost")
    default:
        return SpritesError(.connectionLost, "the connection to \(place) was lost (\(reasonText(error)))")
    }
}

private func reasonText(_ error: any Error) -> String {
    (error as? IOError).map { errorText($0.errnoCode) } ?? "\(error)"
}

/// What the C library calls an error.
func errorText(_ number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
