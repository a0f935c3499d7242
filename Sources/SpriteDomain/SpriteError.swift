// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The one error that crosses target boundaries: a stable code, a sentence for the caller, a cause for the log.
package struct SpriteError: Error, Sendable, CustomStringConvertible {
    /// A stable, machine-readable code. Unknown codes survive a round trip.
    package struct Code: RawRepresentable, Hashable, Sendable {
        package var rawValue: String
        package init(rawValue: String) { self.rawValue = rawValue }

        /// A value in the request breaks a rule. HTTP 400.
        package static let invalidRequest = Code(rawValue: "invalid_request")
        /// No token, or one that is not known. HTTP 401.
        package static let unauthorized = Code(rawValue: "unauthorized")
        /// The named thing does not exist. HTTP 404.
        package static let notFound = Code(rawValue: "not_found")
        /// The name is taken. HTTP 409.
        package static let alreadyExists = Code(rawValue: "already_exists")
        /// The thing is busy with, or in a state that excludes, what was asked. HTTP 409.
        package static let conflict = Code(rawValue: "conflict")
        /// It was there and has ended. HTTP 410.
        package static let gone = Code(rawValue: "gone")
        /// The request is larger than a documented limit. HTTP 413.
        package static let tooLarge = Code(rawValue: "too_large")
        /// A limit on rate or count was reached. HTTP 429.
        package static let limitReached = Code(rawValue: "limit_reached")
        /// As many sprites as may be awake at once are; clients know the word. HTTP 429.
        package static let concurrentSpriteLimit = Code(rawValue: "concurrent_sprite_limit_exceeded")
        /// This host cannot do it, for example a limit no cgroup hierarchy can enforce. HTTP 501.
        package static let unsupported = Code(rawValue: "unsupported")
        /// The daemon is stopping. HTTP 503.
        package static let unavailable = Code(rawValue: "unavailable")
        /// Something outside did not answer in time. HTTP 504.
        package static let timeout = Code(rawValue: "timeout")
        /// The pool has no space left. HTTP 507.
        package static let noSpace = Code(rawValue: "no_space")
        /// A fault of ours or of the host; the message holds no internals. HTTP 500.
        package static let internalError = Code(rawValue: "internal")
    }

    package var code: Code
    /// For the caller: `cannot <verb>: <what is true and should not be>`, with value and limit; no secret.
    package var message: String
    /// For the log only.
    package var cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        cause.map { "\(code.rawValue): \(message) (\($0))" } ?? "\(code.rawValue): \(message)"
    }
}

extension SpriteError {
    /// What a caller is told after btrfs could not write its own structure.
    package static func poolGivenUp(_ verb: String, cause: (any Error)? = nil) -> SpriteError {
        SpriteError(
            .unavailable,
            "cannot \(verb): the pool is read-only since the disk below it failed or was full; what was acknowledged is "
                + "safe. Make room there, stop the daemon, run `sprited cleanup`, which ends all sprites, and start it again",
            cause: cause)
    }
}
