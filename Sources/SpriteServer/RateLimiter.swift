// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI
import SpriteDomain
import Synchronization

/// How often one client may do something.
package struct RateLimit: Sendable, Hashable {
    /// At once, and in every window.
    package var count: Int
    package var window: Duration

    package init(count: Int, window: Duration) {
        self.count = count
        self.window = window
    }
}

/// A client did something too often.
struct RateLimited: Error {
    var code: SpriteError.Code
    var verb: String
    var limit: RateLimit
    var retryAfter: Int
    var resetAfter: Int

    var body: API.ErrorBody {
        let seconds = Int(limit.window.components.seconds)
        var body = API.ErrorBody(
            error: code.rawValue,
            message: "cannot \(verb): \(limit.count) in \(seconds) s are allowed, try again in \(retryAfter) s")
        body.retryAfterSeconds = retryAfter
        body.limit = limit.count
        body.windowSeconds = seconds
        body.currentCount = limit.count
        return body
    }

    func headers(now: Timestamp) -> HTTPHeaders {
        [
            "retry-after": "\(retryAfter)", "x-ratelimit-limit": "\(limit.count)", "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "\((now.nanoseconds + 999_999_999) / 1_000_000_000 + Int64(resetAfter))",
        ]
    }
}

extension SpriteError.Code {
    /// Too many requests. HTTP 429.
    static let rateLimited = SpriteError.Code(rawValue: "rate_limited")
    /// Too many new sprites; clients know the word. HTTP 429.
    static let creationRateLimited = SpriteError.Code(rawValue: "sprite_creation_rate_limited")
}

/// A bucket of tokens for each client address: full at first, a token out for each request, refilled evenly.
final class RateLimiter: Sendable {
    private struct Bucket {
        var tokens: Double
        var at: ContinuousClock.Instant
    }

    /// Addresses remembered; when there are more, those whose buckets are full again are forgotten.
    private static let clientsMax = 10_000

    private let limit: RateLimit?
    private let code: SpriteError.Code
    private let verb: String
    private let buckets = Mutex<[String: Bucket]>([:])

    init(_ limit: RateLimit?, code: SpriteError.Code, verb: String) {
        self.limit = limit
        self.code = code
        self.verb = verb
    }

    /// Counts one request of a client. Throws ``RateLimited``.
    func take(_ address: SocketAddress?, now: ContinuousClock.Instant = .now) throws {
        guard let limit else { return }
        let perSecond = Double(limit.count) / limit.window.seconds
        let missing = buckets.withLock { buckets -> Double? in
            if buckets.count > Self.clientsMax {
                buckets = buckets.filter { ($0.value.at.duration(to: now)) < limit.window }
            }
            var bucket = buckets[address?.ipAddress ?? ""] ?? Bucket(tokens: Double(limit.count), at: now)
            bucket.tokens = min(
                Double(limit.count), bucket.tokens + bucket.at.duration(to: now).seconds * perSecond)
            bucket.at = now
            defer { buckets[address?.ipAddress ?? ""] = bucket }
            guard bucket.tokens >= 1 else { return 1 - bucket.tokens }
            bucket.tokens -= 1
            return nil
        }
        guard let missing else { return }
        throw RateLimited(
            code: code, verb: verb, limit: limit, retryAfter: max(1, Int((missing / perSecond).rounded(.up))),
            resetAfter: Int(limit.window.seconds.rounded(.up)))
    }
}

extension Duration {
    fileprivate var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
