// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A service and its state.
    ///
    /// ```json
    /// {"name":"web","cmd":"python3","args":["-m","http.server"],"needs":[],"http_port":8000,
    ///  "state":{"name":"web","status":"running","started_at":"2026-02-03T04:05:06Z","restart_count":0}}
    /// ```
    public struct Service: Codable, Sendable, Hashable {
        /// The service's name; unique in its sprite.
        public var name: String
        /// The executable.
        public var cmd: String
        /// Its arguments, without the executable.
        public var args: [String]
        /// Services that must run first.
        public var needs: [String]
        /// The port that requests to the sprite's URL go to.
        public var httpPort: Int?
        /// Variables laid over the default environment.
        public var env: [String: String]
        /// Working directory; nil means the user's home.
        public var dir: String?
        /// What it does now.
        public var state: ServiceState

        /// A service.
        public init(name: String, cmd: String, args: [String], needs: [String], state: ServiceState) {
            self.name = name
            self.cmd = cmd
            self.args = args
            self.needs = needs
            self.state = state
            env = [:]
        }

        private enum CodingKeys: String, CodingKey {
            case name, cmd, args, needs, env, dir, state
            case httpPort = "http_port"
        }
    }

    /// What a service does now.
    public struct ServiceState: Codable, Sendable, Hashable {
        /// The service's name.
        public var name: String
        /// `stopped`, `starting`, `running`, `stopping` or `failed`.
        public var status: String
        /// RFC 3339; only while it runs.
        public var startedAt: String?
        /// RFC 3339; only while it waits to be started again after a crash.
        public var nextRestartAt: String?
        /// Starts after crashes, since it was defined or the sprite started.
        public var restartCount: Int
        /// Why it failed.
        public var error: String?

        /// A state.
        public init(name: String, status: String, restartCount: Int) {
            self.name = name
            self.status = status
            self.restartCount = restartCount
        }

        private enum CodingKeys: String, CodingKey {
            case name, status, error
            case startedAt = "started_at"
            case nextRestartAt = "next_restart_at"
            case restartCount = "restart_count"
        }
    }

    /// The body of `PUT …/services/{name}`.
    public struct DefineService: Decodable, Sendable {
        /// The executable; required.
        public var cmd: String
        /// Its arguments.
        public var args: [String]
        /// Services that must run first.
        public var needs: [String]
        /// The port that requests to the sprite's URL go to.
        public var httpPort: Int?
        /// Variables laid over the default environment.
        public var env: [String: String]
        /// Working directory.
        public var dir: String?

        /// Reads both spellings of the port that clients use; null stands for absent.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            cmd = try object.value("cmd") ?? ""
            args = try object.value("args") ?? []
            needs = try object.value("needs") ?? []
            httpPort = try object.value("http_port", "httpPort")
            env = try object.value("env") ?? [:]
            dir = try object.value("dir")
        }
    }

    /// The body of `POST …/services/signal`.
    public struct SignalService: Codable, Sendable {
        /// The service.
        public var name: String
        /// `HUP` or `SIGHUP`, or a number as text.
        public var signal: String
    }

    /// One line of a service's stream; `timestamp` is Unix milliseconds, an integer.
    public struct ServiceStreamEvent: Codable, Sendable, Hashable {
        /// `started`, `stdout`, `stderr`, `exit`, `error`, `stopping`, `stopped` or `complete`.
        public var type: String
        /// Output, or the text of an error.
        public var data: String?
        /// With `exit`, and with `stopped` where it is known.
        public var exitCode: Int?
        /// Unix milliseconds.
        public var timestamp: Int64
        /// With `complete`: where the output is kept inside the sprite.
        public var logFiles: [String: String]?

        /// An event of a type.
        public init(type: String, timestamp: Int64) {
            self.type = type
            self.timestamp = timestamp
        }

        private enum CodingKeys: String, CodingKey {
            case type, data, timestamp
            case exitCode = "exit_code"
            case logFiles = "log_files"
        }
    }
}
