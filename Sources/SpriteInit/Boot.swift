// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Which place `sprite-env` has in a sprite.
enum Role: Equatable {
    /// It is PID 1.
    case first
    /// The base brought its own PID 1; this runs beside it, and reaps only what it started.
    case beside(ForeignInit)
    /// Started by hand, for a test.
    case byHand
}

/// An init system of the base.
package enum ForeignInit: String, CaseIterable {
    case systemd, openrc, s6

    /// The first of these that is there runs.
    var programs: [String] {
        switch self {
        case .systemd: ["/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/sbin/init"]
        case .openrc: ["/sbin/openrc-init", "/usr/sbin/openrc-init", "/sbin/init"]
        case .s6: ["/etc/s6/init", "/sbin/init"]
        }
    }

    /// Whether its own output is all there is to read; systemd has a journal.
    var writesToConsole: Bool { self != .systemd }
}

/// Begins as PID 1, leaves `sprite-env` behind as a child, and becomes the init system of the base.
package enum Boot {
    static let consolePath = "/dev/console"
    /// For the daemon to say the sprite's name, before the init system looks for it.
    private static let setupMilliseconds: Int32 = 3000
    static let environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=oci", "HOME=/", "TERM=linux",
    ]

    package static func run(_ kind: ForeignInit) -> Never {
        // Whoever broke the init system of their sprite must still be able to get in and repair it.
        guard let program = kind.programs.first(where: isProgram) else { runAlone() }
        // The daemon connects once this process is in all its control groups: a child made earlier would not be.
        var waited = pollfd(fd: InitProcess.listenerNumber, events: Int16(POLLIN), revents: 0)
        while poll(&waited, 1, -1) < 0, errno == EINTR {}
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { runAlone() }
        let console = kind.writesToConsole ? makeConsole() : -1
        let child = clinux_fork()
        guard child >= 0 else { runAlone() }
        if child == 0 {
            close(ends[0])
            setsid()
            if kind == .systemd { leaveRootGroup() }
            do {
                try InitProcess(role: .beside(kind), ready: Descriptor(owning: ends[1])).run()
            } catch {
                exit(1)
            }
        }
        close(ends[1])
        waited = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
        while poll(&waited, 1, setupMilliseconds) < 0, errno == EINTR {}
        become(program, console)
    }

    private static func runAlone() -> Never {
        do {
            try InitProcess(role: .first).run()
        } catch {
            exit(1)
        }
    }

    private static func become(_ program: String, _ console: Int32) -> Never {
        let null = open("/dev/null", O_RDWR)
        let output = console >= 0 ? console : null
        for (source, target) in [(null, STDIN_FILENO), (output, STDOUT_FILENO), (output, STDERR_FILENO)]
        where source >= 0 { dup2(source, target) }
        for number in 3..<64 as Range<Int32> { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
        umask(0o022)
        _ = chdir("/")
        clinux_execute(program, "/sbin/init", environment.joined(separator: "\n"))
        // It cannot run: `sprite-env` beside goes on, and somebody has to reap.
        while true {
            let process = waitpid(-1, nil, 0)
            if process < 0, errno == ECHILD { exit(1) }
        }
    }

    /// A pipe by name where programs look for the console; the daemon reads it by `sprite-env console`.
    ///
    /// - Returns: Both ends in one descriptor, so that it never has no reader, nor no writer; -1 if it cannot be made.
    private static func makeConsole() -> Int32 {
        unlink(consolePath)
        guard mkfifo(consolePath, 0o600) == 0 else { return -1 }
        return open(consolePath, O_RDWR | O_CLOEXEC)
    }

    /// systemd keeps the root of its control groups free of processes, and takes those in it for its own.
    private static func leaveRootGroup() {
        let group = "/sys/fs/cgroup/.sprite-env"
        mkdir(group, 0o755)
        try? writeSmallFile("\(group)/cgroup.procs", "0")
    }

    /// Copies what comes on the console to standard output, for ever.
    package static func copyConsole() -> Never {
        let console = open(consolePath, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        var facts = stat()
        guard console >= 0, fstat(console, &facts) == 0, facts.st_mode & S_IFMT == S_IFIFO else { exit(1) }
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(console, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { exit(1) }
            var sent = 0
            while sent < count {
                let result = buffer[sent..<count].withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
                if result < 0, errno == EINTR { continue }
                guard result > 0 else { exit(1) }
                sent += result
            }
        }
    }
}
