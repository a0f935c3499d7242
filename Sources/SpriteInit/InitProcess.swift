// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteSystem

/// PID 1 of a sprite: starts commands for the daemon, reaps, and keeps what the daemon would lose if it died.
///
/// One thread, nothing that depends on the files of the sprite being whole. What it says, and what others write to its
/// standard streams, goes to the daemon.
package final class InitProcess {
    /// The listening socket that the sandbox inherits.
    package static let listenerNumber: Int32 = 3
    private enum Token { static let signals: UInt64 = 0, listener: UInt64 = 1, connection: UInt64 = 2 }
    /// Between asking everything to end and making it end.
    private static let shutdownMilliseconds = 2000
    /// Without a request or an ended process for this long, memory is given back.
    private static let quietMicroseconds: Int64 = 500_000
    /// Texts in events; the daemon refuses large messages.
    private static let textBytesMax = 4096

    private let poller: Descriptor
    private let signals: Descriptor
    private let listener: Descriptor
    private var connection: Connection?
    private var sessions: [UInt64: KeptSession] = [:]
    private var sessionOfProcess: [Int32: UInt64] = [:]
    private var lastSession: UInt64 = 0
    private let ownScore: Bool
    private let role: Role
    /// Closed once the daemon has said who the sprite is; then the init system of the base begins.
    private var ready: Descriptor?

    /// - Throws: ``SystemError`` if descriptor 3 is not a listening socket.
    package convenience init() throws { try self.init(role: getpid() == 1 ? .first : .byHand) }

    /// - Parameter ready: A pipe's end that tells its other end, by being closed, that the setup is done.
    init(role: Role, ready: Descriptor? = nil) throws {
        self.role = role
        self.ready = ready
        listener = Descriptor(owning: InitProcess.listenerNumber)
        var isListening: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(listener.number, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0, isListening != 0
        else { throw SystemError(ENOTSOCK, "use descriptor 3 as the listening socket") }
        _ = fcntl(listener.number, F_SETFD, FD_CLOEXEC)
        try checked(clinux_set_nonblocking(listener.number, 1), "prepare the listening socket")
        signals = Descriptor(owning: try checked(clinux_signals(), "signalfd"))
        poller = Descriptor(owning: try checked(clinux_poller(), "epoll"))
        clinux_limit_files(0)
        // Without PID 1 nothing of the sprite is left; commands are put back to 0 after their start.
        ownScore = (try? writeSmallFile("/proc/self/oom_score_adj", "-900")) != nil
        let readable = UInt32(CLINUX_READABLE)
        try checked(clinux_watch(poller.number, signals.number, readable, Token.signals), "epoll")
        try checked(clinux_watch(poller.number, listener.number, readable, Token.listener), "epoll")
        if role == .first { keepConsole() }
    }

    /// Makes standard output and error pipes, whose other ends the daemon gets like those of a command.
    ///
    /// Both ends stay open here: nobody inside who writes to `/proc/1/fd/1` finds it without a reader. This process
    /// itself never waits for one.
    private func keepConsole() {
        var kept: [Descriptor] = []
        for number in [STDOUT_FILENO, STDERR_FILENO] {
            var ends: [Int32] = [-1, -1]
            guard clinux_pipe(&ends, 0) == 0 else {
                return say("cannot make a pipe for the console: what it prints is not recorded (errno \(errno))")
            }
            kept.append(Descriptor(owning: ends[0]))
            clinux_set_nonblocking(ends[1], 1)
            dup2(ends[1], number)
            close(ends[1])
        }
        sessions[agentConsoleSession] = KeptSession(process: 1, isTerminal: false, output: kept)
    }

    package func run() -> Never {
        var events = [clinux_event](repeating: clinux_event(), count: 8)
        var isQuiet = false
        while true {
            // What could not be sent for want of memory or descriptors in flight is tried again soon.
            let pause = connection?.hasOutgoing == true ? 20_000 : (isQuiet ? -1 : InitProcess.quietMicroseconds)
            let count = clinux_wait_events(poller.number, &events, Int32(events.count), pause)
            if count == 0, !isQuiet, connection?.hasOutgoing != true {
                // Hundreds of sprites wait most of the time; there is one PID 1 in each.
                clinux_trim_memory()
                clinux_release_code()
            }
            isQuiet = count == 0
            for event in events.prefix(Int(max(count, 0))) {
                switch event.token {
                case Token.signals: takeSignals()
                case Token.listener: accept()
                default: connection?.receive { self.handle($0, $1) }
                }
            }
            connection?.flush()
            if let connection, !connection.isOpen { drop() }
        }
    }

    private func accept() {
        let number = clinux_accept(listener.number)
        guard number >= 0 else {
            // Out of descriptors: the socket stays readable, so do not spin.
            if number == -EMFILE || number == -ENFILE || number == -ENOMEM { usleep(10_000) }
            return
        }
        if connection != nil { drop() }
        let socket = Descriptor(owning: number)
        let wanted = UInt32(CLINUX_READABLE)
        guard clinux_watch(poller.number, number, wanted, Token.connection) == 0 else { return }
        connection = Connection(socket: socket)
    }

    private func drop() {
        if let connection { clinux_unwatch(poller.number, connection.socket.number) }
        connection = nil
    }

    private func handle(_ request: AgentRequest, _ descriptors: [Descriptor]) {
        switch request {
        case .setup(let hostname, let nameServers):
            prepare(hostname, nameServers)
            sayHello()
        case .spawn(let spawn): start(spawn, descriptors)
        case .signal(let session, let number): signal(session, Int32(truncatingIfNeeded: number))
        case .closeInput(let session): sessions[session]?.input = nil
        case .release(let session):
            if let kept = sessions.removeValue(forKey: session), kept.ending == nil {
                sessionOfProcess[kept.process] = nil
            }
        case .shutdown:
            if case .beside(let kind) = role { askToEnd(kind) } else { shutDown() }
        }
    }

    private func prepare(_ hostname: String, _ nameServers: [String]) {
        var current = utsname()
        uname(&current)
        let name = withUnsafeBytes(of: current.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != hostname, role != .byHand, sethostname(hostname, hostname.utf8.count) < 0 {
            say("cannot set the host name: \(SystemError(errno, "sethostname"))")
        }
        // Only in a sprite: by hand, for a test, the files would be the host's.
        if role != .byHand, access("/.sprite", F_OK) == 0 {
            HostFiles(hostname: hostname, nameServers: nameServers).write()
        }
        ready = nil
    }

    private func sayHello() {
        connection?.send(.hello(lastSession: lastSession, sessionCount: UInt32(sessions.count)))
        for (id, kept) in sessions.sorted(by: { $0.key < $1.key }) {
            let session = AgentSession(
                id: id, process: UInt32(clamping: kept.process), isTerminal: kept.isTerminal,
                hasInput: kept.input != nil, ending: kept.ending)
            connection?.send(.session(session), kept.output + (kept.input.map { [$0] } ?? []))
        }
    }

    private func start(_ spawn: AgentSpawn, _ descriptors: [Descriptor]) {
        lastSession = max(lastSession, spawn.session)
        do {
            let launch = try Launch(spawn)
            let kept = try launch.start(descriptors)
            sessions[spawn.session] = kept
            sessionOfProcess[kept.process] = spawn.session
            if ownScore { try? writeSmallFile("/proc/\(kept.process)/oom_score_adj", "0") }
            connection?.send(
                .spawned(
                    session: spawn.session, process: UInt32(clamping: kept.process),
                    path: shortened(launch.resolvedPath), directory: shortened(launch.directory)),
                kept.isTerminal ? [kept.output[0]] : [])
        } catch {
            let failure =
                error as? LaunchFailure ?? LaunchFailure(stage: AgentStage.prepare, number: EIO, text: "\(error)")
            connection?.send(
                .spawnFailed(
                    session: spawn.session, stage: failure.stage, errno: UInt32(clamping: failure.number),
                    text: shortened(failure.text)))
        }
        if spawn.arguments.count + spawn.environment.count > 1000 { clinux_trim_memory() }
    }

    private func shortened(_ text: String) -> String {
        text.utf8.count <= InitProcess.textBytesMax
            ? text : String(decoding: text.utf8.prefix(InitProcess.textBytesMax), as: UTF8.self)
    }

    private func signal(_ session: UInt64, _ number: Int32) {
        guard session != agentConsoleSession, let kept = sessions[session], kept.ending == nil,
            (1...64).contains(number)
        else { return }
        var group = kept.process
        if kept.isTerminal {
            let foreground = clinux_foreground_group(kept.output[0].number)
            if foreground > 1 { group = foreground }
        }
        if kill(-group, number) < 0 { _ = kill(kept.process, number) }
    }

    private func takeSignals() {
        var sender: pid_t = 0
        while true {
            let number = clinux_next_signal(signals.number, &sender)
            guard number > 0 else { break }
            guard number != SIGCHLD else { continue }
            // Whoever lives inside may signal it as much as they like; it ends when the host says so, or when the init
            // system that it runs beside ends the whole computer.
            switch role {
            case .first: if sender == 0 { shutDown() }
            case .beside: if sender == 1 { shutDown() }
            case .byHand: shutDown()
            }
        }
        reap()
    }

    private func reap() {
        var status: Int32 = 0
        while true {
            let process = waitpid(-1, &status, WNOHANG)
            if process < 0, errno == EINTR { continue }
            guard process > 0 else { return }
            guard let session = sessionOfProcess.removeValue(forKey: process) else { continue }
            let signal = status & 0x7F
            let ending: AgentEnding =
                signal == 0 ? .exited(UInt8(truncatingIfNeeded: status >> 8)) : .signaled(UInt8(clamping: signal))
            sessions[session]?.ending = ending
            connection?.send(.ended(session: session, ending))
        }
    }

    /// Asks everything to end, then exits: the kernel kills what is left with PID 1.
    private func shutDown() -> Never {
        signalEverything(SIGTERM)
        signalEverything(SIGCONT)
        for _ in 0..<(InitProcess.shutdownMilliseconds / 10) {
            while waitpid(-1, nil, WNOHANG) > 0 {}
            if waitpid(-1, nil, WNOHANG) < 0, errno == ECHILD { break }
            usleep(10_000)
        }
        signalEverything(SIGKILL)
        exit(0)
    }

    /// Has the init system of the base stop its services and end; this ends with it.
    private func askToEnd(_ kind: ForeignInit) {
        switch kind {
        case .systemd: _ = kill(1, clinux_realtime_signal(3))  // SIGRTMIN+3: halt.target
        case .s6: _ = kill(1, SIGTERM)
        case .openrc:
            guard let null = try? Descriptor.open("/dev/null", O_RDWR) else { return }
            let request = SpawnRequest(
                paths: ["/sbin/openrc-shutdown", "/usr/sbin/openrc-shutdown"],
                arguments: ["openrc-shutdown", "--poweroff", "now"], environment: Boot.environment, directory: "/",
                descriptors: [null.number, null.number, null.number])
            _ = try? withExtendedLifetime(null) { try spawn(request) }
        }
    }

    private func signalEverything(_ number: Int32) {
        if role == .first {
            _ = kill(-1, number)
        } else {
            for process in sessionOfProcess.keys { _ = kill(-process, number) }
        }
    }
}
