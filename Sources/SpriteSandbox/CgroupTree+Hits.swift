// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain
import SpriteSystem

extension CgroupTree {
    /// What the kernel counted; a group that is gone has no counts.
    package func limitHits(_ id: SpriteID) -> LimitHits {
        var hits = LimitHits()
        if let folder = limitPlace(id, .memory) {
            // The second is the file of version 1.
            hits.memoryKills = count("oom_kill", ["\(folder)/memory.events", "\(folder)/memory.oom_control"])
        }
        if let folder = limitPlace(id, .pids) { hits.refusedProcesses = count("max", ["\(folder)/pids.events"]) }
        return hits
    }

    private func count(_ key: String, _ files: [String]) -> Int {
        for file in files {
            guard let text = try? readSmallFile(file) else { continue }
            for line in text.split(separator: "\n") {
                let parts = line.split(separator: " ")
                if parts.count == 2, parts[0] == key { return Int(parts[1]) ?? 0 }
            }
        }
        return 0
    }
}
