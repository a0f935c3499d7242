// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What the daemon asks of PID 1.
package enum AgentRequest: Sendable, Hashable {
    /// First on every connection; answered by `hello`.
    case setup(hostname: String, nameServers: [String])
    /// Answered by `spawned` or `spawnFailed`.
    case spawn(AgentSpawn)
    /// To the process group, or to the foreground group of a terminal.
    case signal(session: UInt64, number: UInt32)
    /// PID 1 closes its copy of the write end of standard input.
    case closeInput(session: UInt64)
    /// Everything was collected: PID 1 may forget the session's status and close its descriptors.
    case release(session: UInt64)
    /// Ends every process, then PID 1.
    case shutdown

    /// The daemon is trusted; this only keeps a damaged length from taking all memory.
    package static let bodyBytesMax = 8 << 20

    package func frame(descriptorCount: Int = 0) -> Frame {
        var writer = WireWriter()
        let type: UInt8
        switch self {
        case .setup(let hostname, let nameServers):
            type = 1
            writer.u16(agentWireVersion)
            writer.text(hostname)
            writer.texts(nameServers)
        case .spawn(let spawn):
            type = 2
            spawn.write(to: &writer)
        case .signal(let session, let number):
            type = 3
            writer.u64(session)
            writer.u32(number)
        case .closeInput(let session):
            type = 4
            writer.u64(session)
        case .release(let session):
            type = 5
            writer.u64(session)
        case .shutdown:
            type = 6
        }
        return Frame(type: type, descriptorCount: UInt8(clamping: descriptorCount), body: writer.bytes)
    }

    package init(_ frame: Frame) throws(WireError) {
        var reader = WireReader(frame.body)
        switch frame.type {
        case 1:
            let version = try reader.u16()
            guard version == agentWireVersion else { throw .badValue("version \(version)") }
            self = .setup(hostname: try reader.text(), nameServers: try reader.texts(countMax: 64))
        case 2: self = .spawn(try AgentSpawn(&reader))
        case 3: self = .signal(session: try reader.u64(), number: try reader.u32())
        case 4: self = .closeInput(session: try reader.u64())
        case 5: self = .release(session: try reader.u64())
        case 6: self = .shutdown
        default: throw .unknownType(frame.type)
        }
        try reader.finish()
    }
}

/// A command to start.
package struct AgentSpawn: Sendable, Hashable {
    package var session: UInt64
    package var isTerminal: Bool
    package var takesInput: Bool
    package var rows: UInt16
    package var columns: UInt16
    /// Empty: `arguments[0]`.
    package var path: String
    package var arguments: [String]
    package var environment: [String]
    /// Empty: the user's home.
    package var directory: String
    /// Empty: `sprite`.
    package var user: String

    package init(
        session: UInt64, isTerminal: Bool, takesInput: Bool, rows: UInt16 = 0, columns: UInt16 = 0, path: String = "",
        arguments: [String], environment: [String], directory: String = "", user: String = ""
    ) {
        self.session = session
        self.isTerminal = isTerminal
        self.takesInput = takesInput
        self.rows = rows
        self.columns = columns
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.user = user
    }

    /// How many descriptors must come with it.
    package var descriptorCount: Int { isTerminal ? 2 : (takesInput ? 6 : 4) }

    fileprivate func write(to writer: inout WireWriter) {
        writer.u64(session)
        writer.u8((isTerminal ? 1 : 0) | (takesInput ? 2 : 0))
        writer.u16(rows)
        writer.u16(columns)
        writer.text(path)
        writer.texts(arguments)
        writer.texts(environment)
        writer.text(directory)
        writer.text(user)
    }

    fileprivate init(_ reader: inout WireReader) throws(WireError) {
        session = try reader.u64()
        let flags = try reader.u8()
        isTerminal = flags & 1 != 0
        takesInput = flags & 2 != 0
        rows = try reader.u16()
        columns = try reader.u16()
        path = try reader.text()
        arguments = try reader.texts(countMax: 1 << 20)
        environment = try reader.texts(countMax: 1 << 20)
        directory = try reader.text()
        user = try reader.text()
        guard !arguments.isEmpty else { throw .badValue("no arguments") }
    }
}
