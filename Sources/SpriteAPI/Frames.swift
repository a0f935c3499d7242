// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// The first byte of a binary message of an exec without a terminal, and of every frame over plain HTTP.
    ///
    /// | byte   | direction       | rest                      |
    /// |--------|-----------------|---------------------------|
    /// | `0x00` | client → server | standard input            |
    /// | `0x01` | server → client | standard output           |
    /// | `0x02` | server → client | standard error            |
    /// | `0x03` | server → client | one byte, the exit code   |
    /// | `0x04` | client → server | empty: end of input       |
    public enum Stream {
        /// Bytes for standard input.
        public static let stdin: UInt8 = 0x00
        /// Bytes of standard output.
        public static let stdout: UInt8 = 0x01
        /// Bytes of standard error.
        public static let stderr: UInt8 = 0x02
        /// The end, with the exit code as the only byte; the last frame.
        public static let exit: UInt8 = 0x03
        /// The end of standard input.
        public static let endOfInput: UInt8 = 0x04
    }

    /// Close codes of WebSockets.
    public enum CloseCode {
        /// All is well; for a terminal: the command succeeded.
        public static let normal: UInt16 = 1000
        /// The server is stopping; the command goes on.
        public static let goingAway: UInt16 = 1001
        /// The peer broke the protocol.
        public static let protocolError: UInt16 = 1002
        /// The first message of a proxy connection was not understood.
        public static let unsupportedData: UInt16 = 1003
        /// A message was larger than the limit.
        public static let messageTooBig: UInt16 = 1009
        /// The client was too far behind; it can attach again.
        public static let tryAgainLater: UInt16 = 1013
        /// The server could not go on.
        public static let internalError: UInt16 = 1011
        /// A terminal's command ended with a code other than 0; one client takes the result from here alone.
        public static let commandFailed: UInt16 = 4000
    }

    /// A text message of an exec connection, either way.
    ///
    /// | type          | direction       | fields                                                         |
    /// |---------------|-----------------|----------------------------------------------------------------|
    /// | session_info  | server → client | session_id, command, created, cols, rows, is_owner, tty,       |
    /// |               |                 | instance, stdout_offset, stderr_offset; first                  |
    /// | keepalive     | server → client |                                                                |
    /// | port_opened   | server → client | port, address, pid                                             |
    /// | port_closed   | server → client | port, address, pid                                             |
    /// | exit          | server → client | exit_code; last, only with a terminal                          |
    /// | resize        | client → server | cols, rows                                                     |
    /// | signal        | client → server | signal                                                         |
    public struct TextMessage: Codable, Sendable, Hashable {
        /// What it is; unknown ones are to be ignored.
        public var type: String
        /// With `session_info`: the id, decimal digits in a string.
        public var sessionID: String?
        /// With `session_info`: the resolved executable and its arguments.
        public var command: String?
        /// With `session_info`: seconds since 1970.
        public var created: Int64?
        /// Columns of the terminal.
        public var columns: Int?
        /// Rows of the terminal.
        public var rows: Int?
        /// With `session_info`: false for a client that attached to a session of another.
        public var isOwner: Bool?
        /// With `session_info`: whether messages are terminal bytes or framed streams.
        public var tty: Bool?
        /// With `session_info`: tells this session from others of its id; to be given back when resuming it.
        public var instance: String?
        /// With `session_info`: which byte of all output comes first.
        public var stdoutOffset: Int64?
        /// With `session_info`: the same for standard error; absent with a terminal.
        public var stderrOffset: Int64?
        /// With `exit`: the exit code.
        public var exitCode: Int?
        /// With `signal`: its name, with or without `SIG`.
        public var signal: String?
        /// With `port_…`: the port.
        public var port: Int?
        /// With `port_…`: the address it listens on.
        public var address: String?
        /// With `port_…`: the process.
        public var pid: Int?

        /// A message of a type, with no field set.
        public init(type: String) { self.type = type }

        /// The last message of a terminal.
        public static func exit(_ code: UInt8) -> TextMessage {
            var message = TextMessage(type: "exit")
            message.exitCode = Int(code)
            return message
        }

        /// Asks for a new size of the terminal.
        public static func resize(columns: Int, rows: Int) -> TextMessage {
            var message = TextMessage(type: "resize")
            message.columns = columns
            message.rows = rows
            return message
        }

        /// Asks for a signal to the command.
        public static func signal(_ name: String) -> TextMessage {
            var message = TextMessage(type: "signal")
            message.signal = name
            return message
        }

        /// Reads a message; a field of another type than expected counts as absent.
        public init(from decoder: any Decoder) throws {
            let object = try decoder.container(keyedBy: TextKey.self)
            type = object.tolerant("type") ?? ""
            sessionID = object.tolerant("session_id")
            command = object.tolerant("command")
            created = object.tolerant("created")
            columns = object.tolerant("cols")
            rows = object.tolerant("rows")
            isOwner = object.tolerant("is_owner")
            tty = object.tolerant("tty")
            instance = object.tolerant("instance")
            stdoutOffset = object.tolerant("stdout_offset")
            stderrOffset = object.tolerant("stderr_offset")
            exitCode = object.tolerant("exit_code")
            signal = object.tolerant("signal")
            port = object.tolerant("port")
            address = object.tolerant("address")
            pid = object.tolerant("pid")
        }

        private enum CodingKeys: String, CodingKey {
            case type, command, created, rows, tty, signal, port, address, pid, instance
            case sessionID = "session_id"
            case columns = "cols"
            case isOwner = "is_owner"
            case exitCode = "exit_code"
            case stdoutOffset = "stdout_offset"
            case stderrOffset = "stderr_offset"
        }
    }

    /// The message that keeps quiet connections alive: some clients count only messages, not pings.
    public static let keepaliveText = #"{"type":"keepalive"}"#
}
