// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// A JuiceFS: the process that watches, and the one it started, which serves. They share a process group.
final class ProcessMark: Sendable {
    let processID: pid_t
    private let startTime: UInt64
    private let pidfd: Descriptor
    private let isChild: Bool

    init(_ processID: pid_t, pidfd: Descriptor, isChild: Bool) {
        self.processID = processID
        self.pidfd = pidfd
        self.isChild = isChild
        startTime = Self.startTime(processID) ?? 0
    }

    /// The process that was written down, if it is still that one.
    convenience init?(text: String) {
        let numbers = text.split { " \n".contains($0) }
        guard numbers.count == 2, let processID = pid_t(numbers[0]), let startTime = UInt64(numbers[1]) else {
            return nil
        }
        let number = clinux_pidfd_open(processID)
        guard number >= 0 else { return nil }
        let pidfd = Descriptor(owning: number)
        // Compared after the open: what the descriptor holds cannot change any more.
        guard Self.startTime(processID) == startTime else { return nil }
        self.init(processID, pidfd: pidfd, isChild: false)
    }

    var text: String { "\(processID) \(startTime)\n" }

    var isRunning: Bool {
        var wanted = pollfd(fd: pidfd.number, events: Int16(POLLIN), revents: 0)
        return poll(&wanted, 1, 0) == 0
    }

    /// Blocks until the watching process has ended, and reaps it.
    func waitForEnd() {
        var wanted = pollfd(fd: pidfd.number, events: Int16(POLLIN), revents: 0)
        while poll(&wanted, 1, -1) < 0 {}
        var signaled: Int32 = 0
        if isChild { clinux_wait(pidfd.number, &signaled) }
    }

    /// Ends both. The group keeps its number while one of them is there, so no other can have it.
    func kill() {
        let members = Self.group(processID)
        clinux_pidfd_send_signal(pidfd.number, SIGKILL)
        for member in members { Glibc.kill(member, SIGKILL) }
        unlink("/tmp/fuse_fd_comm.\(processID)")
    }

    /// Ends those that were started for a mount and never written down: the daemon ended in between.
    ///
    /// - Parameter setting: Of their environment, which no other process has.
    static func killUnrecorded(_ setting: String) {
        for process in all() {
            // A child of the daemon that has not become JuiceFS yet has the daemon's environment.
            guard let text = try? readSmallFile("/proc/\(process)/environ", bytesMax: 1 << 20) else { continue }
            if text.split(separator: "\0").contains(Substring(setting)) { Glibc.kill(process, SIGKILL) }
        }
    }

    /// Processes of that session whose program is JuiceFS.
    private static func group(_ session: pid_t) -> [pid_t] {
        all().filter { $0 != session && getsid($0) == session }
    }

    /// Every JuiceFS of this host.
    private static func all() -> [pid_t] {
        names("/proc").compactMap { pid_t($0) }.filter {
            (try? readSmallFile("/proc/\($0)/comm", bytesMax: 64)) == "juicefs\n"
        }
    }

    /// Clock ticks between the start of the host and of the process.
    private static func startTime(_ processID: pid_t) -> UInt64? {
        guard let text = try? readSmallFile("/proc/\(processID)/stat"), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
        return UInt64(fields[19])
    }
}
