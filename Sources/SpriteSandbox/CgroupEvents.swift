// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// The file `cgroup.events` of a control group, whose changes wake poll(2).
enum CgroupEvents {
    /// Waits until `key` has `value`; false if it has not by the deadline. A group that is gone has no processes.
    static func wait(
        _ folder: String, _ key: String, _ value: String, deadline: ContinuousClock.Instant
    ) throws -> Bool {
        let file = try Descriptor.open("\(folder)/cgroup.events", O_RDONLY)
        var buffer = [UInt8](repeating: 0, count: 512)
        // The kernel puts a change of the file off by up to 10 ms if it told of another just before (freeze, thaw,
        // freeze), although the group itself takes microseconds: so look for a moment before sleeping in poll.
        let lookUntil = ContinuousClock.now + .milliseconds(3)
        while true {
            // Reading is also what tells the kernel which changes were seen.
            let count = pread(file.number, &buffer, buffer.count, 0)
            if count < 0, errno == ENODEV { return true }
            guard count >= 0 else { throw SystemError(errno, "read \(folder)/cgroup.events") }
            let lines = String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n")
            if lines.contains("\(key) \(value)"[...]) { return true }
            let now = ContinuousClock.now
            if now < lookUntil {
                usleep(50)
                continue
            }
            let left = now.duration(to: deadline)
            guard left > .zero else { return false }
            var polled = pollfd(fd: file.number, events: Int16(POLLPRI), revents: 0)
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            if poll(&polled, 1, Int32(clamping: milliseconds + 1)) < 0, errno != EINTR {
                throw SystemError(errno, "wait for \(folder)/cgroup.events")
            }
        }
    }
}
