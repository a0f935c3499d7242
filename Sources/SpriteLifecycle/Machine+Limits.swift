// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Machine {
    /// Records limits that were hit since the last look.
    func recordLimitHits() {
        guard let sandbox, !isFrozen else { return }
        let hits = drivers.sandboxes.limitHits(sandbox.id)
        let kills = hits.memoryKills - limitHits.memoryKills
        if kills > 0 {
            let limit = sprite.limits.memoryMiB
            note(
                "sprite.oom_killed", level: .error,
                "\(kills == 1 ? "a process was" : "\(kills) processes were") killed: "
                    + (limit.map { "the limit of \($0) MiB of memory was reached" } ?? "the host has no memory left"),
                fields: [("processes", .number(Int64(kills)))]
                    + (limit.map { [("memory_mb", .number(Int64($0)))] } ?? []))
        }
        let refused = hits.refusedProcesses - limitHits.refusedProcesses
        if refused > 0 {
            let limit = sprite.limits.pids ?? Limits.defaultPidsMax
            note(
                "sprite.pids_limit", level: .warning,
                "\(refused) new \(refused == 1 ? "process was" : "processes were") refused: the limit is \(limit)",
                fields: [("refused", .number(Int64(refused))), ("pids", .number(Int64(limit)))])
        }
        limitHits = hits
    }
}
