// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// What one sprite's upkeep holds in memory.
enum Memory {
    static func residentKiB(_ pid: Int32) -> Int {
        guard let status = try? readFile("/proc/\(pid)/status") else { return 0 }
        for line in status.split(separator: "\n") where line.hasPrefix("VmRSS:") {
            return Int(line.split(separator: " ").dropFirst().first ?? "") ?? 0
        }
        return 0
    }

    /// What of the whole host is in memory and not yet on a disk.
    static func dirtyMB() -> Double {
        guard let facts = try? readFile("/proc/meminfo") else { return 0 }
        for line in facts.split(separator: "\n") where line.hasPrefix("Dirty:") {
            let kibibytes = Double(line.split(separator: " ").dropFirst().first ?? "") ?? 0
            return kibibytes * 1024 / 1e6
        }
        return 0
    }

    /// Resident sets of every process in the cgroups of a daemon's sprites, in KiB, and how many there are.
    static func spriteProcesses(tag: String) -> (kibibytes: Int, count: Int) {
        var total = 0
        var count = 0
        for name in directoryNames("/proc") {
            guard let pid = Int32(name), let cgroup = try? readFile("/proc/\(name)/cgroup"),
                cgroup.contains("sprited-\(tag)/")
            else { continue }
            total += residentKiB(pid)
            count += 1
        }
        return (total, count)
    }
}
