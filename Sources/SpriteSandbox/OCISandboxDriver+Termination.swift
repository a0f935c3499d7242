// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
package import SpriteDomain
import SpriteSystem

/// Asking the processes of a sprite to end.
extension OCISandboxDriver {
    package func terminate(_ sandbox: Sandbox, grace: Duration) async {
        let start = ContinuousClock.now
        do {
            try requireRunning(sandbox.id)
            // PID 1 would take every other process with it, at once.
            guard try await blocking({ try self.askToEnd(sandbox) }) else { return }
            while ContinuousClock.now - start < grace {
                try await Task.sleep(for: .milliseconds(20))
                if try cgroups.processes(sandbox.id).allSatisfy({ $0 == sandbox.processID }) { return }
            }
            logger.debug("processes of a sprite did not end when asked", metadata: ["sprite.id": "\(sandbox.id)"])
        } catch {
            // Killing comes next, whatever went wrong here.
            logger.debug("processes of a sprite cannot be asked to end", metadata: ["error": "\(error)"])
        }
    }

    /// Signals everything but PID 1; false if there is nothing else. Afterwards the sprite is not frozen.
    private func askToEnd(_ sandbox: Sandbox) throws -> Bool {
        // Held still no process ends, so that every number still means the process that was found.
        try cgroups.freeze(sandbox.id)
        defer { try? cgroups.thaw(sandbox.id) }
        let processes = try cgroups.processes(sandbox.id).filter { $0 != sandbox.processID }
        for process in processes {
            // Shells at a prompt ignore SIGTERM; what a terminal that goes away sends them is this.
            kill(process, ignoresTermination(process) ? SIGHUP : SIGTERM)
            kill(process, SIGCONT)
        }
        return !processes.isEmpty
    }

    private func ignoresTermination(_ process: Int32) -> Bool {
        guard let text = try? readSmallFile("/proc/\(process)/status"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("SigIgn:") }),
            let mask = UInt64(line.dropFirst("SigIgn:".count).filter { !$0.isWhitespace }, radix: 16)
        else { return false }
        return mask & (1 << UInt64(SIGTERM - 1)) != 0
    }
}

extension CgroupTree {
    /// Every process of a sprite, also in groups that it has made itself.
    func processes(_ id: SpriteID) throws -> [Int32] {
        var result: [Int32] = []
        var folders = ["\(CgroupLayout.root)\(runtimePath(id))"]
        // Bounded: how many groups there are is up to the sprite.
        for _ in 0..<1000 {
            guard let folder = folders.popLast() else { break }
            // Enough for all numbers there are; half a one would be another process.
            let text = (try? readSmallFile("\(folder)/cgroup.procs", bytesMax: 64 << 20)) ?? ""
            result += text.split(separator: "\n").compactMap { Int32($0) }.filter { $0 > 0 }
            for name in (try? directoryEntries(folder)) ?? [] {
                var facts = stat()
                guard lstat("\(folder)/\(name)", &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else { continue }
                folders.append("\(folder)/\(name)")
            }
        }
        return result
    }
}
