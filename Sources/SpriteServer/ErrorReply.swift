// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension SpriteError.Code {
    /// The path exists, but not with this method. HTTP 405.
    static let methodNotAllowed = SpriteError.Code(rawValue: "method_not_allowed")

    /// The path has only a WebSocket. HTTP 426.
    static let upgradeRequired = SpriteError.Code(rawValue: "upgrade_required")
    /// Nothing in the sprite answers. HTTP 502.
    static let badGateway = SpriteError.Code(rawValue: "bad_gateway")

    /// The one table from codes to HTTP statuses; a code that is not in it is a fault of ours.
    var httpStatus: HTTPResponseStatus {
        switch self {
        case .invalidRequest: .badRequest
        case .unauthorized: .unauthorized
        case .notFound: .notFound
        case .forbidden: .forbidden
        case .methodNotAllowed: .methodNotAllowed
        case .headersTooLarge: .requestHeaderFieldsTooLarge
        case .upgradeRequired: .upgradeRequired
        case .badGateway: .badGateway
        case .alreadyExists, .conflict: .conflict
        case .gone: .gone
        case .tooLarge: .payloadTooLarge
        case .limitReached, .concurrentSpriteLimit: .tooManyRequests
        case .unsupported: .notImplemented
        case .unavailable: .serviceUnavailable
        case .timeout: .gatewayTimeout
        case .noSpace: .insufficientStorage
        default: .internalServerError
        }
    }
}

/// What a client is told of an error.
struct ErrorReply {
    let status: HTTPResponseStatus
    let body: API.ErrorBody
    var headers: HTTPHeaders = [:]

    /// Logs what the client is not told: a fault of ours in whole, at `error`.
    init(_ error: any Error, requestID: String, logger: Logger) {
        if let error = error as? SpriteError, error.code.httpStatus != .internalServerError {
            status = error.code.httpStatus
            var body = API.ErrorBody(error: error.code.rawValue, message: error.message)
            if error.code == .concurrentSpriteLimit {
                // A sprite that is left alone is frozen after that time, and then makes room.
                body.retryAfterSeconds = Limits.freezeAfterSecondsDefault
                headers = ["retry-after": "\(Limits.freezeAfterSecondsDefault)"]
            }
            self.body = body
            if let cause = error.cause {
                logger.warning(
                    "request failed",
                    metadata: ["request.id": "\(requestID)", "error": "\(error)", "cause": "\(cause)"])
            }
        } else if let error = error as? RateLimited {
            status = .tooManyRequests
            body = error.body
            headers = error.headers(now: .now())
        } else if error is CancellationError {
            status = .serviceUnavailable
            body = API.ErrorBody(
                error: SpriteError.Code.unavailable.rawValue, message: "cannot answer: the server is stopping")
        } else {
            logger.error("request failed", metadata: ["request.id": "\(requestID)", "error": "\(error)"])
            status = .internalServerError
            let message = (error as? SpriteError)?.message ?? "internal error"
            body = API.ErrorBody(
                error: SpriteError.Code.internalError.rawValue,
                message: "\(message); the server's log has the details under request id \(requestID)")
        }
    }
}
