// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteDomain
import SpriteSystem
import Synchronization

/// Taking over what PID 1 keeps, after a restart of the daemon.
extension Agent {
    func checkKinds(_ descriptors: [Descriptor], _ session: AgentSession) throws {
        guard descriptors.count == session.descriptorCount else { throw WireError.missingDescriptors }
        for (index, descriptor) in descriptors.enumerated() {
            let wanted: Int32 = session.isTerminal && index == 0 ? 2 : 1
            guard clinux_descriptor_kind(descriptor.number) == wanted else {
                throw WireError.badValue("a descriptor of session \(session.id)")
            }
        }
    }

    func adopt(_ session: AgentSession, _ descriptors: [Descriptor]) throws {
        if let live = sessions[session.id] {
            if let ending = session.ending { live.ended(ExitStatus(ending)) }
            return
        }
        let files = SessionFiles(directory: "\(core.sessionsDirectory(sprite))/\(session.id)")
        let outputs = session.isTerminal ? [] : Array(descriptors.prefix(2))
        guard let record = files.load(id: String(session.id)), record.info.isTerminal == session.isTerminal else {
            guard session.ending == nil else { return discard(session, outputs) }
            return try adopt(session, descriptors, files, recordOfUnknown(session), creating: true)
        }
        try adopt(session, descriptors, files, record, creating: false)
    }

    private func recordOfUnknown(_ session: AgentSession) -> SessionRecord {
        let isConsole = session.id == agentConsoleSession
        var info = SessionInfo(
            id: String(session.id), command: isConsole ? "init" : "(unknown)", directory: "/",
            isTerminal: session.isTerminal, terminalSize: nil, createdAt: .now())
        if isConsole { info.tag = "console" }
        return SessionRecord(info: info, maxRunAfterDisconnect: session.isTerminal || isConsole ? nil : .seconds(10))
    }

    private func adopt(
        _ session: AgentSession, _ descriptors: [Descriptor], _ files: SessionFiles, _ record: SessionRecord,
        creating: Bool
    ) throws {
        let outputs: [Descriptor]
        if creating {
            files.remove()
            _ = mkdir(core.sessionsDirectory(sprite), 0o700)
            outputs = try files.create(record)
        } else {
            outputs = try files.open(isTerminal: record.info.isTerminal)
        }
        let live = core.makeSession(session.id, of: sprite, record: record, outputs: outputs, files: files)
        live.process = Int32(clamping: session.process)
        live.session.state.withLock { state in
            for (index, file) in outputs.enumerated() {
                let (start, end) = SessionFiles.extent(file)
                state.streams[index].start = start
                state.streams[index].end = end
            }
        }
        enter(live)
        // Whoever was attached comes back for what is printed now.
        if session.ending == nil, record.info.tag == nil { live.holdForReader() }
        live.openForJournal(nil)
        if session.isTerminal {
            try live.start(master: descriptors[0], relayRead: descriptors[1], relayWrite: descriptors[2])
        } else {
            // A description of our own: the other one could be made blocking from inside.
            var input: Descriptor?
            if session.hasInput, session.ending == nil {
                let number = clinux_reopen_pipe(descriptors[2].number, 1)
                if number >= 0 { input = Descriptor(owning: number) }
            }
            try live.start(pipes: Array(descriptors.prefix(2)), input: input)
        }
        if let ending = session.ending {
            live.endedUnseen = true
            live.ended(ExitStatus(ending))
        } else {
            live.disconnected()
            if live.session.info.tag == nil { live.awaitReader() }
        }
    }

    private func discard(_ session: AgentSession, _ outputs: [Descriptor]) {
        guard let ending = session.ending, !outputs.isEmpty, let sink = try? Descriptor.open("/dev/null", O_WRONLY)
        else {
            link?.send(.release(session: session.id))
            return
        }
        let live = core.makeSession(
            session.id, of: sprite, record: recordOfUnknown(session), outputs: [sink, sink], files: nil)
        enter(live)
        do { try live.start(discarding: outputs) } catch { live.abandonDescendants() }
        live.ended(ExitStatus(ending))
    }
}
