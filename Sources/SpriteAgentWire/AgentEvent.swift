// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What PID 1 tells the daemon. It comes from inside a sprite, so every part of it may be a lie.
package enum AgentEvent: Sendable, Hashable {
    case hello(lastSession: UInt64, sessionCount: UInt32)
    case session(AgentSession)
    case spawned(session: UInt64, process: UInt32, path: String, directory: String)
    case spawnFailed(session: UInt64, stage: UInt8, errno: UInt32, text: String)
    case ended(session: UInt64, AgentEnding)

    package func frame(descriptorCount: Int = 0) -> Frame {
        var writer = WireWriter()
        let type: UInt8
        switch self {
        case .hello(let lastSession, let sessionCount):
            type = 1
            writer.u16(agentWireVersion)
            writer.u64(lastSession)
            writer.u32(sessionCount)
        case .session(let session):
            type = 2
            writer.u64(session.id)
            writer.u32(session.process)
            writer.u8((session.isTerminal ? 1 : 0) | (session.hasInput ? 2 : 0))
            writer.u8(session.ending?.state ?? 0)
            writer.u8(session.ending?.status ?? 0)
        case .spawned(let session, let process, let path, let directory):
            type = 3
            writer.u64(session)
            writer.u32(process)
            writer.text(path)
            writer.text(directory)
        case .spawnFailed(let session, let stage, let errno, let text):
            type = 4
            writer.u64(session)
            writer.u8(stage)
            writer.u32(errno)
            writer.text(text)
        case .ended(let session, let ending):
            type = 5
            writer.u64(session)
            writer.u8(ending.state)
            writer.u8(ending.status)
        }
        return Frame(type: type, descriptorCount: UInt8(clamping: descriptorCount), body: writer.bytes)
    }

    package init(_ frame: Frame) throws(WireError) {
        var reader = WireReader(frame.body)
        switch frame.type {
        case 1:
            let version = try reader.u16()
            guard version == agentWireVersion else { throw .badValue("version \(version)") }
            self = .hello(lastSession: try reader.u64(), sessionCount: try reader.u32())
        case 2:
            let id = try reader.u64()
            let process = try reader.u32()
            let flags = try reader.u8()
            let state = try reader.u8()
            let status = try reader.u8()
            self = .session(
                AgentSession(
                    id: id, process: process, isTerminal: flags & 1 != 0, hasInput: flags & 2 != 0,
                    ending: state == 0 ? nil : try AgentEnding(state: state, status: status)))
        case 3:
            self = .spawned(
                session: try reader.u64(), process: try reader.u32(), path: try reader.text(),
                directory: try reader.text())
        case 4:
            self = .spawnFailed(
                session: try reader.u64(), stage: try reader.u8(), errno: try reader.u32(), text: try reader.text())
        case 5:
            self = .ended(session: try reader.u64(), try AgentEnding(state: try reader.u8(), status: try reader.u8()))
        default: throw .unknownType(frame.type)
        }
        try reader.finish()
    }
}

/// A session that PID 1 keeps.
package struct AgentSession: Sendable, Hashable {
    package var id: UInt64
    package var process: UInt32
    package var isTerminal: Bool
    package var hasInput: Bool
    /// Nil while it runs.
    package var ending: AgentEnding?

    package init(id: UInt64, process: UInt32, isTerminal: Bool, hasInput: Bool, ending: AgentEnding?) {
        self.id = id
        self.process = process
        self.isTerminal = isTerminal
        self.hasInput = hasInput
        self.ending = ending
    }

    /// How many descriptors must come with it.
    package var descriptorCount: Int { isTerminal ? 3 : (hasInput ? 3 : 2) }
}

/// How a process ended.
package enum AgentEnding: Sendable, Hashable {
    case exited(UInt8)
    case signaled(UInt8)

    fileprivate var state: UInt8 {
        switch self {
        case .exited: 1
        case .signaled: 2
        }
    }

    fileprivate var status: UInt8 {
        switch self {
        case .exited(let status), .signaled(let status): status
        }
    }

    fileprivate init(state: UInt8, status: UInt8) throws(WireError) {
        switch state {
        case 1: self = .exited(status)
        case 2: self = .signaled(status)
        default: throw .badValue("state \(state)")
        }
    }
}

/// Where a command stopped before its program ran: the stages of the spawn call and two of PID 1's own.
package enum AgentStage {
    package static let clone: UInt8 = 1
    package static let credentials: UInt8 = 4
    package static let directory: UInt8 = 5
    package static let exec: UInt8 = 7
    /// No such user.
    package static let user: UInt8 = 100
    /// PID 1 could not get a terminal, a pipe or a descriptor.
    package static let prepare: UInt8 = 101
}
