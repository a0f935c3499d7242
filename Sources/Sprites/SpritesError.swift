// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What went wrong, as a code to branch on and a sentence to show.
public struct SpritesError: Error, Sendable, CustomStringConvertible {
    /// A stable code: one the server sent, or one of this library.
    ///
    /// Codes the library does not know are kept as they came.
    public struct Code: RawRepresentable, Hashable, Sendable {
        /// The code as it goes over the wire.
        public var rawValue: String

        /// Makes a code from its wire form.
        public init(rawValue: String) { self.rawValue = rawValue }

        /// A value in the request breaks a rule.
        public static let invalidRequest = Code(rawValue: "invalid_request")
        /// There is no token, or the server does not know it.
        public static let unauthorized = Code(rawValue: "unauthorized")
        /// The named thing does not exist.
        public static let notFound = Code(rawValue: "not_found")
        /// The name is taken.
        public static let alreadyExists = Code(rawValue: "already_exists")
        /// The thing is busy with something that excludes what was asked.
        public static let conflict = Code(rawValue: "conflict")
        /// It was there and has ended.
        public static let gone = Code(rawValue: "gone")
        /// The request is larger than a limit of the server.
        public static let tooLarge = Code(rawValue: "too_large")
        /// A limit on rate or count was reached; see ``SpritesError/retryAfter``.
        public static let limitReached = Code(rawValue: "limit_reached")
        /// The server's host cannot do it.
        public static let unsupported = Code(rawValue: "unsupported")
        /// The server is stopping.
        public static let unavailable = Code(rawValue: "unavailable")
        /// The server's storage is full.
        public static let noSpace = Code(rawValue: "no_space")
        /// A fault of the server; its log has the request id.
        public static let internalError = Code(rawValue: "internal")

        /// No connection to the server could be made.
        public static let cannotConnect = Code(rawValue: "cannot_connect")
        /// The connection ended before the answer, or before the command's exit code.
        public static let connectionLost = Code(rawValue: "connection_lost")
        /// The server, or a time limit the caller gave, ran out.
        public static let timeout = Code(rawValue: "timeout")
        /// The server's answer does not follow the protocol.
        public static let invalidResponse = Code(rawValue: "invalid_response")
        /// The command has ended, so it takes no input.
        public static let commandEnded = Code(rawValue: "command_ended")
        /// Output grew beyond the limit set for collecting it.
        public static let outputLimit = Code(rawValue: "output_limit")
        /// The command ended with another exit code than 0 where success was asked for.
        public static let commandFailed = Code(rawValue: "command_failed")
    }

    /// What went wrong, for programs.
    public var code: Code
    /// What went wrong, for people: one sentence without a full stop.
    public var message: String
    /// The HTTP status, when the server answered with one.
    public var status: Int?
    /// The server's name for the request, to be found in its log.
    public var requestID: String?
    /// How long to wait before another attempt, when the server said so.
    public var retryAfter: Duration?
    /// The session of the command it is about, to attach to again.
    public var sessionID: String?
    /// Whether what was asked for may still run.
    public var mayBeRunning = false
    /// The file it is about; ``code`` is then the name of the POSIX error, such as `ENOENT`.
    public var path: String?
    /// How far a command came that failed or ran out of time.
    public var result: CommandResult?

    /// Whether a limit on rate or count was reached, whatever its ``code``: there are several.
    public var isRateLimited: Bool { status == 429 || code == .limitReached }

    /// What to do about it.
    public var remedy: String? {
        switch code {
        case .unauthorized: "give the token of 'sprited token'"
        case .alreadyExists: "take another name, or get the one that is there"
        case _ where isRateLimited: "wait as long as retryAfter says"
        case .noSpace: "delete sprites or checkpoints"
        case .unavailable: "try again when the server runs"
        case .internalError: "look for the request id in the server's log"
        case .cannotConnect: "check the address and that the server runs"
        case .outputLimit: "read the output as a stream, or raise the limit"
        case .connectionLost where mayBeRunning: "look for it with sessions(), attach to it or kill it"
        default: nil
        }
    }

    /// Makes an error.
    public init(
        _ code: Code, _ message: String, status: Int? = nil, requestID: String? = nil, retryAfter: Duration? = nil
    ) {
        self.code = code
        self.message = message
        self.status = status
        self.requestID = requestID
        self.retryAfter = retryAfter
    }

    /// The message.
    public var description: String { message }
}
