// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// The answer of a plain `GET /v1/sprites/{name}/exec`.
    public struct SessionList: Codable, Sendable, Hashable {
        /// Commands that run; never null.
        public var sessions: [Session]
        /// Their number.
        public var count: Int

        /// A list of these sessions.
        public init(_ sessions: [Session]) {
            self.sessions = sessions
            count = sessions.count
        }

        /// Reads a list; a missing one is empty.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            sessions = try object.value("sessions") ?? []
            count = sessions.count
        }
    }

    /// A command that runs in a sprite.
    public struct Session: Codable, Sendable, Hashable {
        /// Decimal digits.
        public var id: String
        /// The resolved executable and its arguments, joined with spaces.
        public var command: String
        /// The working directory it was started in.
        public var workdir: String
        /// RFC 3339.
        public var created: String
        /// Whether it has a terminal.
        public var tty: Bool
        /// Always zero for now.
        public var bytesPerSecond: Double
        /// Whether it runs.
        public var isActive: Bool
        /// RFC 3339: when it last wrote something.
        public var lastActivity: String?

        /// A session that runs.
        public init(id: String, command: String, workdir: String, created: String, tty: Bool) {
            self.id = id
            self.command = command
            self.workdir = workdir
            self.created = created
            self.tty = tty
            bytesPerSecond = 0
            isActive = true
        }

        /// Reads a session; only the id is required.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: CodingKeys.self)
            id = try object.decode(String.self, forKey: .id)
            command = try object.decodeIfPresent(String.self, forKey: .command) ?? ""
            workdir = try object.decodeIfPresent(String.self, forKey: .workdir) ?? ""
            created = try object.decodeIfPresent(String.self, forKey: .created) ?? ""
            tty = try object.decodeIfPresent(Bool.self, forKey: .tty) ?? false
            bytesPerSecond = try object.decodeIfPresent(Double.self, forKey: .bytesPerSecond) ?? 0
            isActive = try object.decodeIfPresent(Bool.self, forKey: .isActive) ?? true
            lastActivity = try object.decodeIfPresent(String.self, forKey: .lastActivity)
        }

        private enum CodingKeys: String, CodingKey {
            case id, command, workdir, created, tty
            case bytesPerSecond = "bytes_per_second"
            case isActive = "is_active"
            case lastActivity = "last_activity"
        }
    }

    /// The parameters of `POST …/exec/{id}/kill`, in a body; the query has the same names.
    public struct KillSession: Codable, Sendable {
        /// A signal's name, with or without `SIG`; nil means TERM.
        public var signal: String?
        /// How long to wait for the end before SIGKILL, as a duration; a body may have seconds as a number.
        public var timeout: String?

        /// Parameters as given.
        public init(signal: String? = nil, timeout: String? = nil) {
            self.signal = signal
            self.timeout = timeout
        }

        /// Reads `timeout` as a text or a number of seconds.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            signal = try object.value("signal")
            if let seconds: Double = object.tolerant("timeout") {
                timeout = "\(seconds)s"
            } else {
                timeout = try object.value("timeout")
            }
        }
    }

    /// One line of the NDJSON stream of a kill.
    public struct KillEvent: Codable, Sendable, Hashable {
        /// `signal`, `timeout`, `exited`, `killed`, `error` or `complete`.
        public var type: String
        /// For people.
        public var message: String?
        /// With `signal`: its name.
        public var signal: String?
        /// With `signal`: the process it went to.
        public var pid: Int?
        /// With `complete`: the command's exit code, 128 + n for a signal; absent while it still runs.
        public var exitCode: Int?

        /// An event.
        public init(
            type: String, message: String? = nil, signal: String? = nil, pid: Int? = nil, exitCode: Int? = nil
        ) {
            self.type = type
            self.message = message
            self.signal = signal
            self.pid = pid
            self.exitCode = exitCode
        }

        private enum CodingKeys: String, CodingKey {
            case type, message, signal, pid
            case exitCode = "exit_code"
        }
    }
}
