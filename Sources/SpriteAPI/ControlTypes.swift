// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// A message of a control connection that is about operations, behind the prefix `control:`.
    ///
    /// ```
    /// C→S  control:{"type":"op.start","op":"exec","args":{"cmd":["sh","-c","date"],"stdin":"false"}}
    /// S→C  control:{"type":"op.complete","args":{"ok":true,"exitCode":0}}
    /// S→C  control:{"type":"op.error","args":{"code":"op.not_found","error":"there is no operation 'x'"}}
    /// ```
    public struct ControlMessage: Codable, Sendable, Hashable {
        /// What every such text message begins with.
        public static let prefix = "control:"

        /// `op.start` from a client; `op.complete` or `op.error` from the server.
        public var type: String
        /// With `op.start`: `exec` or `proxy`.
        public var operation: String?
        /// Chosen by the client, and given back.
        public var id: String?
        /// With `op.start`: what the query of the operation's own path would hold.
        public var parameters: Query = Query([])
        /// With `op.complete` and `op.error`.
        public var outcome: Outcome?

        /// How an operation went.
        public struct Outcome: Codable, Sendable, Hashable {
            /// With `op.complete`.
            public var ok: Bool?
            /// With `op.complete`: always there, since some clients take its absence for success.
            public var exitCode: Int?
            /// With `op.error`: for people.
            public var error: String?
            /// With `op.error`: for programs, such as `op.not_found`.
            public var code: String?
        }

        /// Asks for an operation.
        public static func start(_ operation: String, _ parameters: Query) -> ControlMessage {
            var message = ControlMessage(type: "op.start", id: nil, outcome: nil)
            message.operation = operation
            message.parameters = parameters
            return message
        }

        /// The operation ended with this exit code.
        public static func complete(_ exitCode: UInt8, id: String?) -> ControlMessage {
            ControlMessage(
                type: "op.complete", id: id, outcome: Outcome(ok: exitCode == 0, exitCode: Int(exitCode)))
        }

        /// The operation could not be started; the connection takes the next.
        public static func failed(_ code: String, _ error: String, id: String?) -> ControlMessage {
            ControlMessage(type: "op.error", id: id, outcome: Outcome(error: error, code: code))
        }

        private init(type: String, id: String?, outcome: Outcome?) {
            self.type = type
            self.id = id
            self.outcome = outcome
        }

        /// Reads a message; arguments are texts or lists of texts, and numbers and truth values are taken as texts.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            type = object.tolerant("type") ?? ""
            operation = object.tolerant("op")
            id = object.tolerant("id")
            guard object.contains(TextKey("args")), type == "op.start" else {
                outcome = object.tolerant("args")
                return
            }
            let arguments = try object.nestedContainer(keyedBy: TextKey.self, forKey: TextKey("args"))
            var items: [Query.Item] = []
            for key in arguments.allKeys {
                if let list = try? arguments.decode([String].self, forKey: key) {
                    items += list.map { Query.Item(key.stringValue, $0) }
                } else if let text = try? arguments.decode(String.self, forKey: key) {
                    items.append(Query.Item(key.stringValue, text))
                } else if let number = try? arguments.decode(Int.self, forKey: key) {
                    items.append(Query.Item(key.stringValue, "\(number)"))
                } else if let flag = try? arguments.decode(Bool.self, forKey: key) {
                    items.append(Query.Item(key.stringValue, "\(flag)"))
                }
            }
            parameters = Query(items)
        }

        /// Writes a message; what may be there more than once is a list.
        public func encode(to encoder: any Encoder) throws {
            var object = encoder.container(keyedBy: TextKey.self)
            try object.encode(type, forKey: TextKey("type"))
            try object.encodeIfPresent(operation, forKey: TextKey("op"))
            try object.encodeIfPresent(id, forKey: TextKey("id"))
            guard operation != nil else { return try object.encodeIfPresent(outcome, forKey: TextKey("args")) }
            var arguments = object.nestedContainer(keyedBy: TextKey.self, forKey: TextKey("args"))
            for (name, items) in Dictionary(grouping: parameters.items, by: \.name) {
                if name == "cmd" || name == "env" || items.count > 1 {
                    try arguments.encode(items.map(\.value), forKey: TextKey(name))
                } else {
                    try arguments.encode(items[0].value, forKey: TextKey(name))
                }
            }
        }
    }

    /// The first message of a proxy connection: where to.
    public struct ProxyTarget: Codable, Sendable, Hashable {
        /// Empty for the sprite itself.
        public var host: String?
        /// 1 to 65535.
        public var port: Int

        /// A target.
        public init(host: String?, port: Int) {
            self.host = host
            self.port = port
        }
    }

    /// The answer to it; bytes follow.
    public struct ProxyStatus: Codable, Sendable, Hashable {
        /// `connected`.
        public var status: String
        /// `host:port`.
        public var target: String

        /// An answer.
        public init(status: String, target: String) {
            self.status = status
            self.target = target
        }
    }

    /// The first message to a watcher of ports.
    public struct PortList: Codable, Sendable, Hashable {
        /// One port that a process listens on.
        public struct Port: Codable, Sendable, Hashable {
            /// The number.
            public var port: Int
            /// The address it listens on.
            public var address: String
            /// The process, as the sprite numbers it; absent if it could not be found.
            public var pid: Int?

            /// A port.
            public init(port: Int, address: String, pid: Int?) {
                self.port = port
                self.address = address
                self.pid = pid
            }
        }

        /// `port_list`.
        public var type = "port_list"
        /// Everything open now.
        public var ports: [Port]

        /// A list.
        public init(ports: [Port]) { self.ports = ports }

        private enum CodingKeys: String, CodingKey { case type, ports }
    }
}
