// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteDomain
import SpriteSystem
import Synchronization

/// The event thread's side of a session: its pumps, its timers, its end.
final class LiveSession {
    /// A session nobody attaches to after its start counts as disconnected then.
    /// So long output is held for a client whose connection was lost, too.
    private static let firstAttach: Duration = .seconds(10)
    /// After the end, for whoever started it and has not attached yet.
    private static let grace: Duration = .seconds(10)
    /// The same if the daemon was away when it ended: clients first have to find out that it is back.
    private static let graceAfterRestart: Duration = .seconds(60)
    /// Between asking a disconnected command to end and killing it.
    private static let killDelay: Duration = .seconds(5)

    let number: UInt64
    let session: Session
    private let loop: EventLoop
    /// Nil once they are removed.
    private var files: SessionFiles?
    private var record: SessionRecord
    private var pumps: [OutputPump] = []
    private(set) var input: InputPump?
    private var master: Descriptor?
    private var masterWatch: EventLoop.Watch?
    private var disconnectTimer: EventLoop.Timer?
    private var graceTimer: EventLoop.Timer?
    private var awaitTimer: EventLoop.Timer?
    private var isRetired = false
    private var isReleased = false
    /// It ended while no daemon was there; its clients may come back for the rest.
    var endedUnseen = false
    /// Its end was collected by a daemon before this one: what its descendants write is thrown away.
    private var isOver = false

    /// Sends to PID 1; nothing once the sandbox is gone.
    var send: (AgentRequest) -> Void = { _ in }
    /// The files are gone: the id is no longer known.
    var onRetired: () -> Void = {}
    var recorder: (any OutputRecorder)?
    /// How much output may wait for the journal.
    var backlogMax: () -> Int = { Limits.journalBacklogBytesMax }
    /// PID 1 was told to forget it.
    var onReleased: () -> Void = {}

    init(loop: EventLoop, number: UInt64, session: Session, files: SessionFiles?, record: SessionRecord) {
        self.loop = loop
        self.number = number
        self.session = session
        self.files = files
        self.record = record
    }

    /// It ended, and is kept for a client that may not have everything.
    var isKept: Bool { !isRunning && !isRetired }
    var isRunning: Bool { session.state.withLock { $0.ending == nil } }

    /// Begins to collect.
    ///
    /// - Parameter input: A description of our own of the write end of standard input.
    func start(pipes: [Descriptor], input: Descriptor?) throws {
        pumps = pipes.enumerated().map { makePump($0.offset, .pipe($0.element)) }
        if let input { takeInput(input, isTerminal: false) }
        for pump in pumps { try pump.start() }
    }

    func start(master: Descriptor, relayRead: Descriptor, relayWrite: Descriptor) throws {
        try checked(clinux_set_nonblocking(master.number, 1), "prepare the terminal")
        self.master = master
        let pump = makePump(0, .terminal(master: master, relayRead: relayRead, relayWrite: relayWrite))
        pumps = [pump]
        takeInput(master, isTerminal: true)
        try pump.start()
    }

    /// Takes over one that ended and was collected before.
    func start(discarding pipes: [Descriptor]) throws {
        isOver = true
        pumps = pipes.enumerated().map { makePump($0.offset, .pipe($0.element)) }
        for pump in pumps {
            pump.discard()
            try pump.start()
        }
    }

    private func takeInput(_ descriptor: Descriptor, isTerminal: Bool) {
        input = InputPump(loop: loop, session: session, descriptor: descriptor, isTerminal: isTerminal) { [weak self] in
            guard let self else { return }
            input = nil
            if !isTerminal { send(.closeInput(session: number)) }
        }
        input?.flush()
    }

    private func makePump(_ stream: Int, _ source: OutputPump.Source) -> OutputPump {
        let file = session.files[stream]
        let offset = session.state.withLock { $0.streams[stream].end }
        let pump = OutputPump(loop: loop, source: source, file: file, offset: offset)
        pump.window = { [session] in session.state.withLock { $0.window(stream) } }
        pump.onBytes = { [session, weak self] count in
            let backlogMax = self?.backlogMax() ?? 0
            let (waiters, hasLaggards, unneeded, isNews) = session.state.withLock {
                (
                    $0.append(count, to: stream), $0.cutOffLaggards(stream),
                    $0.takeUnneeded(stream, backlogMax: backlogMax), $0.report()
                )
            }
            for waiter in waiters { waiter.resume() }
            if hasLaggards { self?.detached() }
            if isNews { self?.recorder?.changed(session) }
            if let unneeded { clinux_punch_hole(file.number, unneeded.lowerBound, Int64(unneeded.count)) }
        }
        pump.onChange = { [weak self] in self?.pumpChanged() }
        return pump
    }

    func collect(_ stream: Int) {
        guard stream < pumps.count else { return }
        pumps[stream].run()
    }

    func resize(_ size: TerminalSize) {
        guard let master else { return }
        clinux_set_terminal_size(master.number, size.rows, size.columns)
        record.info.terminalSize = size
        try? files?.save(record)
    }

    func signal(_ number: Int32) {
        guard isRunning else { return }
        send(.signal(session: self.number, number: UInt32(clamping: number)))
    }

    /// The command's first process, as PID 1 says.
    var process: Int32 {
        get { session.info.processID }
        set { session.state.withLock { $0.info.processID = newValue } }
    }

    /// PID 1 told what it has resolved.
    func resolved(command: String, directory: String) {
        record.info.command = command
        record.info.directory = directory
        session.state.withLock { state in
            state.info.command = command
            state.info.directory = directory
        }
        try? files?.save(record)
    }

    // MARK: The end

    func ended(_ status: ExitStatus) {
        let (isFirst, waiters) = session.state.withLock { state in
            state.ending == nil ? (true, state.end(status)) : (false, [])
        }
        guard isFirst else { return }
        for waiter in waiters { waiter.resume(.success(status)) }
        stopDisconnectTimer()
        input?.close()
        for pump in pumps { pump.processEnded() }
        pumpChanged()
    }

    private func pumpChanged() {
        guard !isRunning else { return }
        if session.state.withLock({ $0.isFinished }) { return release() }
        guard pumps.allSatisfy(\.isCollected) else { return }
        let (waiters, isNews) = session.state.withLock { ($0.finish(), $0.report()) }
        for waiter in waiters { waiter.resume() }
        if isNews { recorder?.changed(session) }
        for pump in pumps { pump.discard() }
        master = nil
        if isOver || number == agentConsoleSession { retire() } else { waitForClient() }
    }

    /// A client has been told the exit status.
    func exitWasDelivered() { retire() }

    private func waitForClient() {
        graceTimer = loop.after(endedUnseen ? LiveSession.graceAfterRestart : LiveSession.grace) { [weak self] in
            guard let self else { return }
            if session.state.withLock({ $0.readers.isEmpty }) { retire() } else { waitForClient() }
        }
    }

    private func retire() {
        guard !isRetired else { return }
        isRetired = true
        if let graceTimer { loop.cancel(graceTimer) }
        removeFiles()
        onRetired()
        release()
    }

    /// What clients still read stays, since it is open; what the journal still needs is put aside.
    func removeFiles() {
        guard let files else { return }
        self.files = nil
        session.letGo(files)
    }

    /// From now on the journal reads it.
    func openForJournal(_ start: CommandStart?) {
        guard let recorder else { return }
        session.state.withLock { state in
            for stream in state.streams.indices { state.streams[stream].recorded = state.streams[stream].start }
            state.isReported = true
        }
        recorder.opened(session, start: start)
    }

    /// Not before every descendant that holds a pipe is gone: it would get SIGPIPE.
    private func release() {
        guard isRetired, !isReleased, pumps.allSatisfy(\.isAtEnd) else { return }
        isReleased = true
        send(.release(session: number))
        onReleased()
    }

    /// Descendants that still write do so at their own risk from now on.
    func abandonDescendants() {
        for pump in pumps { pump.close() }
        release()
    }

    // MARK: Clients

    func attached() {
        stopDisconnectTimer()
        // Before there was a client, the command was held back after the first few MiB.
        for pump in pumps { pump.run() }
    }

    private func stopDisconnectTimer() {
        if let disconnectTimer { loop.cancel(disconnectTimer) }
        disconnectTimer = nil
    }

    func detached(isLost: Bool = false) {
        // The job of an attach and of its detach may both come after the fact: then the timer of the start still runs.
        stopDisconnectTimer()
        if session.state.withLock({ $0.readers.isEmpty }) { disconnected() }
        if isLost { awaitReader() }
        // Whoever held the command back may have been the one that left.
        for pump in pumps { pump.run() }
    }

    /// Call before output is taken: what is printed until a client attaches is kept for it.
    func holdForReader() { session.state.withLock { state in state.awaited = state.streams.map(\.end) } }

    func started() {
        disconnected(LiveSession.firstAttach)
        awaitReader()
    }

    /// If nobody comes, it goes on without.
    func awaitReader() {
        if let awaitTimer { loop.cancel(awaitTimer) }
        awaitTimer = loop.after(LiveSession.firstAttach) { [weak self] in
            guard let self else { return }
            awaitTimer = nil
            session.state.withLock { $0.awaited = nil }
            for pump in pumps { pump.run() }
        }
    }

    func disconnected(_ extra: Duration = .zero) {
        guard disconnectTimer == nil, isRunning, let limit = record.maxRunAfterDisconnect else { return }
        let (sum, overflow) = limit.nanoseconds.addingReportingOverflow(extra.nanoseconds)
        disconnectTimer = loop.after(.nanoseconds(overflow ? .max : sum)) { [weak self] in
            guard let self else { return }
            signal(SIGHUP)
            signal(SIGTERM)
            killLater()
        }
    }

    private func killLater() {
        loop.after(LiveSession.killDelay) { [weak self] in
            guard let self, isRunning else { return }
            signal(SIGKILL)
            // On a terminal the signal goes to the foreground group, so there may be more than one to go.
            killLater()
        }
    }

    /// Closes everything at once, as if the daemon had been killed.
    func drop() {
        for pump in pumps { pump.close() }
        if let disconnectTimer { loop.cancel(disconnectTimer) }
        if let graceTimer { loop.cancel(graceTimer) }
        if let awaitTimer { loop.cancel(awaitTimer) }
    }
}
