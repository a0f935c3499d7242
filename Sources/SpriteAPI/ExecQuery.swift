// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// The query of every way to run or attach to a command.
    ///
    /// | name                     | meaning                                                       |
    /// |--------------------------|---------------------------------------------------------------|
    /// | cmd, cmd[]               | one argument each, in order                                   |
    /// | path                     | the executable; the first argument if absent                  |
    /// | env                      | `NAME=VALUE`, repeated                                        |
    /// | dir                      | working directory; the home directory if absent               |
    /// | tty, rows, cols          | a terminal and its size, 24 × 80 if absent                    |
    /// | stdin                    | whether there is input; by default only with a terminal       |
    /// | id                       | attach to this session instead                                |
    /// | detachable               | the command outlives its client                               |
    /// | max_run_after_disconnect | how long it may go on without a client; 0 means for ever      |
    /// | user                     | who runs it (an addition of this server); `sprite` if absent  |
    /// | cc                       | ignored                                                       |
    public struct ExecQuery: Sendable, Hashable {
        /// A value that cannot be understood.
        public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
            /// One sentence that names the parameter and the rule.
            public var description: String
        }

        /// The arguments, `argv[0]` included.
        public var command: [String] = []
        /// The executable, if it is not the first argument.
        public var path: String?
        /// Each `NAME=VALUE`.
        public var environment: [String] = []
        /// The working directory.
        public var directory: String?
        /// Whether a terminal is wanted.
        public var tty = false
        /// Rows of the terminal.
        public var rows: Int?
        /// Columns of the terminal.
        public var columns: Int?
        /// Whether there is input; nil means the default.
        public var takesInput: Bool?
        /// Whether the command outlives its client.
        public var detachable = false
        /// The session to attach to.
        public var sessionID: String?
        /// How long the command may go on without a client; zero means for ever.
        public var maxRunAfterDisconnect: Duration?
        /// Who runs it.
        public var user: String?
        /// Whether the old multiplexer flag was there; it has no effect.
        public var hasMultiplexerFlag = false

        /// A query for a command.
        public init(command: [String] = []) { self.command = command }

        /// Reads a query; unknown parameters are ignored.
        public init(_ query: Query) throws(Problem) {
            for item in query.items {
                switch item.name {
                case "cmd", "cmd[]": command.append(item.value)
                case "path": path = item.value.isEmpty ? nil : item.value
                case "env", "env[]": environment.append(item.value)
                case "dir": directory = item.value.isEmpty ? nil : item.value
                case "tty": tty = try Self.flag(item)
                case "rows": rows = try Self.dimension(item)
                case "cols": columns = try Self.dimension(item)
                case "stdin": takesInput = try Self.flag(item)
                case "detachable": detachable = try Self.flag(item)
                case "cc": hasMultiplexerFlag = true
                case "id": sessionID = item.value.isEmpty ? nil : item.value
                case "max_run_after_disconnect": maxRunAfterDisconnect = try Self.duration(item)
                case "user": user = item.value.isEmpty ? nil : item.value
                default: break
                }
            }
        }

        /// The query that says this.
        public var query: Query {
            var items = command.map { Query.Item("cmd", $0) }
            if let path = path ?? command.first { items.append(.init("path", path)) }
            items += environment.map { .init("env", $0) }
            if let directory { items.append(.init("dir", directory)) }
            if tty { items.append(.init("tty", "true")) }
            if let rows { items.append(.init("rows", "\(rows)")) }
            if let columns { items.append(.init("cols", "\(columns)")) }
            if let takesInput { items.append(.init("stdin", takesInput ? "true" : "false")) }
            if detachable { items.append(.init("detachable", "true")) }
            if let sessionID { items.append(.init("id", sessionID)) }
            if let maxRunAfterDisconnect {
                items.append(.init("max_run_after_disconnect", DurationText.text(maxRunAfterDisconnect)))
            }
            if let user { items.append(.init("user", user)) }
            return Query(items)
        }

        private static func flag(_ item: Query.Item) throws(Problem) -> Bool {
            switch item.value.lowercased() {
            case "true", "1", "t", "yes": return true
            case "false", "0", "f", "no", "": return false
            default:
                throw Problem(description: "invalid query: '\(item.name)' is '\(clip(item.value))', use true or false")
            }
        }

        private static func dimension(_ item: Query.Item) throws(Problem) -> Int? {
            guard let number = Int(item.value), (0...65535).contains(number) else {
                throw Problem(
                    description: "invalid query: '\(item.name)' is '\(clip(item.value))', use a number from 1 to 65535")
            }
            return number == 0 ? nil : number
        }

        private static func duration(_ item: Query.Item) throws(Problem) -> Duration {
            guard let duration = DurationText.parse(item.value) else {
                throw Problem(
                    description: "invalid query: '\(item.name)' is '\(clip(item.value))', "
                        + "use a duration such as 10s, 500ms or 1h30m")
            }
            return duration
        }

        private static func clip(_ text: String) -> String {
            text.count <= 40 ? text : text.prefix(40) + "…"
        }
    }
}
