// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Prints what journald got since the sprite started, and gets from then on, one entry a line: `sprite-env journald`.
///
/// `journalctl --follow` shows an entry up to a quarter of a second after it was written. So whoever asks this to end, by
/// SIGTERM, gets the rest first: the daemon before a restore, the init system at the end of a shutdown.
package final class JournaldReader {
    private static let programs = ["/usr/bin/journalctl", "/bin/journalctl"]
    /// There once journald takes messages.
    private static let journaldPath = "/run/systemd/journal/stdout"
    /// How far it has come, in memory and only for this run of the sprite: whoever follows one that was killed goes on
    /// there. Without it everything since the start is new.
    private static let cursorPath = "/run/sprite-env.journald"
    private static let cursorBytesMax = 512
    /// journald takes lines of 48 KiB from services, longer texts only from programs that hand them over as a whole; those
    /// are passed on in pieces.
    private static let lineBytesMax = 1 << 20
    private static let pauseAtFirst: Int64 = 200
    private static let pauseAtMost: Int64 = 30_000
    /// Of the time to end, for journald to take what waits in its sockets and to write it out.
    private static let syncMilliseconds: Int64 = 300
    /// All the time to end; the daemon waits a little longer.
    private static let endMilliseconds: Int64 = 900

    /// Why a wait is over.
    private enum Wake { case ready, asked, late }

    /// A journalctl that runs.
    private struct Source {
        var child: Child
        var output: Descriptor
    }

    private let signals: Descriptor
    private let cursorFile: Descriptor?
    private var cursor: String?
    /// What came of a line that has no end yet.
    private var line: [UInt8] = []

    private init() throws {
        signals = Descriptor(owning: try checked(clinux_signals(), "signalfd"))
        cursorFile = try? Descriptor.open(Self.cursorPath, O_RDWR | O_CREAT | O_NOFOLLOW)
        cursor = (try? readSmallFile(Self.cursorPath, bytesMax: Self.cursorBytesMax)).flatMap(JournaldCursor.checked)
    }

    package static func run() -> Never {
        do {
            try JournaldReader().follow()
        } catch {
            exit(1)
        }
    }

    private func follow() -> Never {
        while access(Self.journaldPath, F_OK) != 0 {
            if wait(for: nil, until: now() + 100) == .asked { exit(0) }
        }
        var pause = Self.pauseAtFirst
        while true {
            let begin = now()
            if let source = start(reading + ["--follow"]) {
                let reason = copy(source, until: nil)
                end(source)
                if reason == .asked { finish(source) }
            }
            if now() - begin > 10_000 { pause = Self.pauseAtFirst }
            if wait(for: nil, until: now() + pause) == .asked { finish(nil) }
            pause = min(pause * 2, Self.pauseAtMost)
        }
    }

    /// Reads to the end of what journald has now. All of it within a time: journalctl may hang, or print for ever.
    private func finish(_ source: Source?) -> Never {
        let deadline = now() + Self.endMilliseconds
        // What it had printed before it was killed.
        if let source { _ = copy(source, until: deadline, heedingSignals: false) }
        if let sync = start(["--sync"]) {
            _ = copy(sync, until: now() + Self.syncMilliseconds, heedingSignals: false)
            end(sync)
        }
        // An init system that ends the computer signals every process that it sees, perhaps this one as well.
        while let rest = start(reading) {
            _ = copy(rest, until: deadline, heedingSignals: false)
            guard case .signaled = end(rest), now() < deadline else { break }
        }
        exit(0)
    }

    /// What is to be read still.
    ///
    /// By time at first: the kernel's boot id, by which a journal tells boots apart, is the host's and outlives the
    /// sprite's runs. The entries of earlier runs, which the disk brings along, are older than PID 1.
    private var reading: [String] {
        let position: String
        if let cursor {
            position = "--after-cursor=\(cursor)"
        } else {
            let start = startOfFirstProcess()
            position = "--since=@\(start / 1_000_000).\(String(1_000_000 + start % 1_000_000).dropFirst())"
        }
        return [
            // Without `--all` a text of more than 4096 bytes is left out.
            position, "--all", "--lines=all", "--no-pager", "--quiet", "--output=json",
            "--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,SYSLOG_IDENTIFIER,_PID",
        ]
    }

    private func start(_ arguments: [String]) -> Source? {
        line = []
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { return nil }
        let output = Descriptor(owning: ends[0])
        let input = Descriptor(owning: ends[1])
        guard let null = try? Descriptor.open("/dev/null", O_RDWR) else { return nil }
        let request = SpawnRequest(
            paths: Self.programs, arguments: ["journalctl"] + arguments, environment: Boot.environment, directory: "/",
            descriptors: [null.number, input.number, null.number])
        return withExtendedLifetime((null, input)) {
            (try? spawn(request)).map { Source(child: $0, output: output) }
        }
    }

    @discardableResult
    private func end(_ source: Source) -> Ending? {
        _ = clinux_pidfd_send_signal(source.child.pidfd.number, SIGKILL)
        return try? source.child.wait()
    }

    // MARK: Output

    /// Hands on whole lines until there are no more.
    private func copy(_ source: Source, until deadline: Int64?, heedingSignals: Bool = true) -> Wake {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let wake = wait(for: source.output.number, until: deadline, heedingSignals: heedingSignals)
            guard wake == .ready else { return wake }
            let count = read(source.output.number, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return .ready }
            take(buffer[..<count])
        }
    }

    private func take(_ bytes: ArraySlice<UInt8>) {
        line += bytes
        guard let newline = line.lastIndex(of: UInt8(ascii: "\n")) else {
            if line.count > Self.lineBytesMax {
                send(line[...])
                line = []
            }
            return
        }
        send(line[...newline])
        if let found = JournaldCursor.last(of: line[..<newline]) { keep(found) }
        line.removeSubrange(...newline)
    }

    /// Waits for as long as the daemon takes: what is not read stays in the journal.
    private func send(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { exit(1) }
            rest = rest.dropFirst(count)
        }
    }

    private func keep(_ found: String) {
        cursor = found
        guard let cursorFile else { return }
        var text = found
        _ = text.withUTF8 { pwrite(cursorFile.number, $0.baseAddress, $0.count, 0) }
        _ = ftruncate(cursorFile.number, off_t(found.utf8.count))
    }

    // MARK: Waiting

    private func wait(for number: Int32?, until deadline: Int64?, heedingSignals: Bool = true) -> Wake {
        while true {
            // poll(2) leaves negative descriptors out.
            var waited = [
                pollfd(fd: heedingSignals ? signals.number : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: number ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            let left = deadline.map { Int32(clamping: max(0, $0 - now())) } ?? -1
            // Also with output at every moment a deadline is a deadline.
            guard left != 0, poll(&waited, 2, left) >= 0 || errno == EINTR else { return .late }
            if waited[0].revents != 0, isAskedToEnd() { return .asked }
            if waited[1].revents != 0 { return .ready }
        }
    }

    private func isAskedToEnd() -> Bool {
        var sender: pid_t = 0
        while true {
            let number = clinux_next_signal(signals.number, &sender)
            guard number > 0 else { return false }
            if number != SIGCHLD { return true }
        }
    }

    private func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}

/// When PID 1 began, in microseconds since 1970, up to a tick too early; now if that cannot be read.
private func startOfFirstProcess() -> Int64 {
    var time = timespec()
    var sinceBoot = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    clock_gettime(CLOCK_BOOTTIME, &sinceBoot)
    func microseconds(_ time: timespec) -> Int64 { Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000 }
    let ticksASecond = Int64(sysconf(Int32(_SC_CLK_TCK)))
    // The name, in parentheses, may hold anything; the start is the 20th field after it (proc_pid_stat(5)).
    guard let text = try? readSmallFile("/proc/1/stat", bytesMax: 4096), let end = text.lastIndex(of: ")"),
        let ticks = text[end...].split(separator: " ").dropFirst(20).first.flatMap({ Int64($0) }), ticksASecond > 0
    else { return microseconds(time) }
    return microseconds(time) - max(0, microseconds(sinceBoot) - ticks * (1_000_000 / ticksASecond))
}
