// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem

/// The control groups of one daemon: `/sprited-<tag>/<sprite id>` in every hierarchy that is used.
package struct CgroupTree: Sendable {
    private let layout: CgroupLayout
    private let group: String

    /// Makes the daemon's groups and hands the controllers down to them.
    package init(layout: CgroupLayout, tag: String) throws {
        var layout = layout
        group = "sprited-\(tag)"
        let unified = "\(CgroupLayout.root)/\(group)"
        try makeDirectory(unified)
        var usable: Set<CgroupController> = []
        for controller in layout.unified {
            // Refused where processes sit in the parent, as in a container's own cgroup2: then there is no such limit.
            let given = [CgroupLayout.root, unified].allSatisfy { folder in
                (try? writeSmallFile("\(folder)/cgroup.subtree_control", "+\(controller.rawValue)")) != nil
            }
            if given { usable.insert(controller) }
        }
        layout.unified = usable
        for (controller, place) in layout.legacy where !usable.contains(controller) {
            try makeDirectory("\(place)/\(group)")
            let needed = "\(place)/\(group)/\(limitFile(controller))"
            if access(needed, F_OK) != 0 { layout.legacy[controller] = nil }
        }
        self.layout = layout
    }

    /// For OCI's `linux.cgroupsPath`.
    package func runtimePath(_ id: SpriteID) -> String { "/\(group)/\(id)" }

    /// Says no before anything is made: `.unsupported` names the controller this host lacks.
    package func check(_ limits: ResourceLimits) throws {
        if let memory = limits.memoryMiB {
            guard (Limits.memoryMiBMin...(1 << 24)).contains(memory) else {
                throw SpriteError(
                    .invalidRequest, "cannot limit memory to \(memory) MiB: the least is \(Limits.memoryMiBMin) MiB")
            }
            try require(.memory)
        }
        if let cpus = limits.cpus {
            guard cpus >= 0.01, cpus <= 4096 else {
                throw SpriteError(.invalidRequest, "cannot limit processor time to \(cpus) CPUs: the least is 0.01")
            }
            try require(.cpu)
        }
        if let pids = limits.pids {
            guard (Limits.pidsMin...(1 << 22)).contains(pids) else {
                throw SpriteError(
                    .invalidRequest, "cannot limit processes to \(pids): the least is \(Limits.pidsMin)")
            }
            try require(.pids)
        }
    }

    /// Makes the groups of a sprite that is about to start, with its limits set.
    package func make(_ id: SpriteID, _ limits: ResourceLimits) throws {
        try makeDirectory(unifiedFolder(id))
        for controller in controllersToSet(limits) {
            if let folder = legacyFolder(id, controller) { try makeDirectory(folder) }
            try set(id, controller, limits)
        }
    }

    /// Lets the init system of a base divide the sprite's own group further. The limits stay with the host.
    package func delegate(_ id: SpriteID) throws {
        let folder = unifiedFolder(id)
        for name in ["", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"] {
            let owner = UserMapping.hostFirst
            try system("hand over \(folder)\(name)") { chown("\(folder)\(name)", owner, owner) }
        }
        // Groups take memory of the kernel.
        try writeSmallFile("\(folder)/cgroup.max.descendants", "\(Limits.groupsInSpriteMax)")
        try writeSmallFile("\(folder)/cgroup.max.depth", "\(Limits.groupDepthInSpriteMax)")
    }

    /// Puts PID 1 into the version 1 groups; its children are born there. In cgroup2 the runtime did it.
    package func enter(_ id: SpriteID, processID: Int32) throws {
        for controller in CgroupController.allCases {
            guard let folder = legacyFolder(id, controller), access(folder, F_OK) == 0 else { continue }
            try writeSmallFile("\(folder)/cgroup.procs", "\(processID)")
        }
    }

    /// Changes the limits of a sprite that runs.
    package func setLimits(_ id: SpriteID, _ limits: ResourceLimits) throws {
        try check(limits)
        for controller in CgroupController.allCases {
            if let folder = legacyFolder(id, controller), access(folder, F_OK) != 0 {
                guard controllersToSet(limits).contains(controller) else { continue }
                try makeDirectory(folder)
                try set(id, controller, limits)
                try moveEverything(id, into: folder)
            } else if limitPlace(id, controller) != nil {
                try set(id, controller, limits)
            }
        }
    }

    /// Holds every process still. Throws `.timeout`, after thawing, if they cannot be held in time.
    package func freeze(_ id: SpriteID) throws {
        let isFrozen = try traced("cgroup.freeze") {
            try writeSmallFile("\(unifiedFolder(id))/cgroup.freeze", "1")
            return try CgroupEvents.wait(
                unifiedFolder(id), "frozen", "1", deadline: .now + Limits.freezeTimeout)
        }
        guard isFrozen else {
            try? thaw(id)
            throw SpriteError(
                .timeout,
                "cannot hold the sprite still: a process in it did not stop within \(Limits.freezeTimeout); try again")
        }
    }

    package func thaw(_ id: SpriteID) throws {
        try traced("cgroup.thaw") { try writeSmallFile("\(unifiedFolder(id))/cgroup.freeze", "0") }
    }

    package func exists(_ id: SpriteID) -> Bool { access(unifiedFolder(id), F_OK) == 0 }

    /// Whether this process is in the sprite's group.
    package func holds(_ id: SpriteID, processID: Int32) -> Bool {
        guard let text = try? readSmallFile("/proc/\(processID)/cgroup") else { return false }
        // An init system of the base's own is in a group of its own within.
        return text.split(separator: "\n").contains {
            $0.hasPrefix("0::") && ($0.hasSuffix(runtimePath(id)) || $0.contains("\(runtimePath(id))/"))
        }
    }

    /// Kills everything, frozen or not, and removes the groups of every hierarchy.
    package func destroy(_ id: SpriteID) throws {
        let deadline = ContinuousClock.Instant.now + Limits.killTimeout
        let folder = unifiedFolder(id)
        if access(folder, F_OK) == 0 {
            try writeSmallFile("\(folder)/cgroup.kill", "1")
            guard try CgroupEvents.wait(folder, "populated", "0", deadline: deadline) else {
                throw SpriteError(
                    .timeout, "cannot stop the sprite: a killed process did not end within \(Limits.killTimeout)")
            }
            for group in groups(folder).reversed() { try remove(group, deadline: deadline) }
        }
        for place in Set(layout.legacy.values) { try remove("\(place)/\(group)/\(id)", deadline: deadline) }
    }

    /// Names of the groups that exist, whoever they belong to.
    package func names() throws -> Set<String> {
        var result: Set<String> = []
        for root in [CgroupLayout.root] + layout.legacy.values {
            for name in try directoryEntries("\(root)/\(group)") {
                var facts = stat()
                guard lstat("\(root)/\(group)/\(name)", &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else {
                    continue
                }
                result.insert(name)
            }
        }
        return result
    }

    /// Removes the daemon's own groups, if no sprite is in them.
    package func removeAll() {
        for root in [CgroupLayout.root] + layout.legacy.values { _ = rmdir("\(root)/\(group)") }
    }

    private func unifiedFolder(_ id: SpriteID) -> String { "\(CgroupLayout.root)/\(group)/\(id)" }

    private func legacyFolder(_ id: SpriteID, _ controller: CgroupController) -> String? {
        guard !layout.unified.contains(controller) else { return nil }
        return layout.legacy[controller].map { "\($0)/\(group)/\(id)" }
    }

    /// Where the limit of this controller is written; nil if no hierarchy of this host has it.
    func limitPlace(_ id: SpriteID, _ controller: CgroupController) -> String? {
        layout.unified.contains(controller) ? unifiedFolder(id) : legacyFolder(id, controller)
    }

    private func require(_ controller: CgroupController) throws {
        guard layout.unified.contains(controller) || layout.legacy[controller] != nil else {
            throw SpriteError(
                .unsupported,
                "cannot limit \(controller.noun): no control group hierarchy of this host has the "
                    + "\(controller.rawValue) controller; `sprited doctor` says how to get it")
        }
    }

    /// Processes are limited always where possible, so that a fork bomb stays inside.
    private func controllersToSet(_ limits: ResourceLimits) -> [CgroupController] {
        var result: [CgroupController] = []
        if limits.memoryMiB != nil { result.append(.memory) }
        if limits.cpus != nil { result.append(.cpu) }
        if layout.unified.contains(.pids) || layout.legacy[.pids] != nil { result.append(.pids) }
        return result
    }

    private func set(_ id: SpriteID, _ controller: CgroupController, _ limits: ResourceLimits) throws {
        guard let folder = limitPlace(id, controller) else { return }
        let isUnified = layout.unified.contains(controller)
        switch controller {
        case .memory: try setMemory(folder, isUnified: isUnified, limits.memoryMiB)
        case .cpu: try setProcessorTime(folder, isUnified: isUnified, limits.cpus)
        case .pids: try writeSmallFile("\(folder)/pids.max", "\(limits.pids ?? Limits.defaultPidsMax)")
        }
    }

    private func setMemory(_ folder: String, isUnified: Bool, _ mebibytes: Int?) throws {
        let bytes = mebibytes.map { "\($0 << 20)" }
        guard !isUnified else {
            try writeSmallFile("\(folder)/memory.max", bytes ?? "max")
            // Without its own bound, what does not fit would go to the host's swap without end.
            if access("\(folder)/memory.swap.max", F_OK) == 0 {
                try writeSmallFile("\(folder)/memory.swap.max", bytes == nil ? "max" : "0")
            }
            return
        }
        // Memory and swap together may never be less than memory alone, so that bound is opened first, closed last.
        let together = "\(folder)/memory.memsw.limit_in_bytes"
        let hasSwap = access(together, F_OK) == 0
        if hasSwap { try writeSmallFile(together, "-1") }
        do {
            try writeSmallFile("\(folder)/memory.limit_in_bytes", bytes ?? "-1")
        } catch let error as SystemError where error.number == EBUSY {
            throw SpriteError(
                .conflict, "cannot limit memory to \(mebibytes ?? 0) MiB: the sprite uses more than that now")
        }
        if hasSwap, let bytes { try writeSmallFile(together, bytes) }
    }

    private func setProcessorTime(_ folder: String, isUnified: Bool, _ cpus: Double?) throws {
        let period = 100_000
        let quota = cpus.map { max(1000, Int($0 * Double(period))) }
        guard !isUnified else {
            return try writeSmallFile("\(folder)/cpu.max", "\(quota.map(String.init) ?? "max") \(period)")
        }
        try writeSmallFile("\(folder)/cpu.cfs_period_us", "\(period)")
        try writeSmallFile("\(folder)/cpu.cfs_quota_us", "\(quota ?? -1)")
    }

    /// Moves every process of the sprite, held still so that none is born outside meanwhile.
    private func moveEverything(_ id: SpriteID, into folder: String) throws {
        try freeze(id)
        defer { try? thaw(id) }
        for group in groups(unifiedFolder(id)) {
            // A threaded group's processes stand with its parent.
            guard let text = try? readSmallFile("\(group)/cgroup.procs", bytesMax: 64 << 20) else { continue }
            for line in text.split(separator: "\n") {
                do {
                    try writeSmallFile("\(folder)/cgroup.procs", String(line))
                } catch let error as SystemError where error.number == ESRCH {
                    continue
                }
            }
        }
    }

    /// This group and all within, parents first; their number and depth are limited.
    private func groups(_ folder: String, depth: Int = 0) -> [String] {
        guard depth <= Limits.groupDepthInSpriteMax else { return [folder] }
        var result = [folder]
        for name in (try? directoryEntries(folder)) ?? [] {
            var facts = stat()
            guard lstat("\(folder)/\(name)", &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else { continue }
            result += groups("\(folder)/\(name)", depth: depth + 1)
        }
        return result
    }

    /// A group is free of its last process a moment after that has ended: version 1 has no event for it.
    private func remove(_ folder: String, deadline: ContinuousClock.Instant) throws {
        while rmdir(folder) < 0 {
            if errno == ENOENT { return }
            guard errno == EBUSY, .now < deadline else { throw SystemError(errno, "remove control group \(folder)") }
            usleep(500)
        }
    }
}

extension CgroupController {
    fileprivate var noun: String {
        switch self {
        case .memory: "memory"
        case .cpu: "processor time"
        case .pids: "processes"
        }
    }
}

/// The version 1 file without which the controller cannot limit.
private func limitFile(_ controller: CgroupController) -> String {
    switch controller {
    case .memory: "memory.limit_in_bytes"
    case .cpu: "cpu.cfs_quota_us"
    case .pids: "cgroup.procs"  // the root group has no pids.max, the others all have
    }
}
