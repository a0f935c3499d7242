// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteSystem

/// A process, safe against its number being used again: the number together with when it was started.
package struct ProcessIdentity: Sendable, Hashable, Codable {
    package var processID: Int32
    /// Clock ticks between the start of the host and of the process; field 22 of /proc/PID/stat.
    package var startTime: UInt64

    package init(processID: Int32, startTime: UInt64) {
        self.processID = processID
        self.startTime = startTime
    }

    /// The process that has this number now; nil if there is none, or if it has already ended.
    package init?(running processID: Int32) {
        guard let text = try? readSmallFile("/proc/\(processID)/stat"),
            // The name in parentheses may hold anything, also spaces and parentheses.
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, let startTime = UInt64(fields[19]), fields[0] != "Z", fields[0] != "X" else {
            return nil
        }
        self.init(processID: processID, startTime: startTime)
    }

    /// A descriptor of exactly this process; nil if it has ended.
    package func open() -> Descriptor? {
        let number = clinux_pidfd_open(processID)
        guard number >= 0 else { return nil }
        let descriptor = Descriptor(owning: number)
        // Compared after the open: what the descriptor holds cannot change any more.
        return ProcessIdentity(running: processID) == self ? descriptor : nil
    }
}
