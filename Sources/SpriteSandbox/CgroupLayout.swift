// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// A resource controller that sprites' limits need.
package enum CgroupController: String, CaseIterable, Sendable {
    case memory, cpu, pids
}

/// Where this host's control groups are.
///
/// A *unified* host has cgroup2 at /sys/fs/cgroup. A *hybrid* one has version 1 hierarchies there, and controllers that
/// sit in one of those are not in cgroup2. Freezing and killing always go through cgroup2, which every hierarchy
/// can have beside the others.
package struct CgroupLayout: Sendable, Hashable {
    package enum Mode: String, Sendable { case unified, hybrid }

    package static let root = "/sys/fs/cgroup"

    package var mode: Mode
    /// Controllers that cgroup2 has.
    package var unified: Set<CgroupController>
    /// Mount points of the version 1 hierarchies that have the others.
    package var legacy: [CgroupController: String]

    package init(mode: Mode, unified: Set<CgroupController>, legacy: [CgroupController: String]) {
        self.mode = mode
        self.unified = unified
        self.legacy = legacy
    }

    /// What is mounted now. Changes nothing.
    ///
    /// - Parameter preferred: Of several mounts of a hierarchy, one below this folder is taken.
    package static func detect(preferring preferred: String? = nil) throws -> CgroupLayout {
        let mounts = try readSmallFile("/proc/self/mountinfo", bytesMax: 16 << 20).split(separator: "\n")
        var legacy: [CgroupController: String] = [:]
        var unified: Set<CgroupController> = []
        for mount in mounts.compactMap({ MountLine($0) }) {
            switch mount.type {
            case "cgroup" where clinux_filesystem_type(mount.place) == legacyMagic:
                for controller in CgroupController.allCases where mount.options.contains(controller.rawValue) {
                    if let preferred, legacy[controller]?.hasPrefix(preferred) == true { continue }
                    legacy[controller] = mount.place
                }
            case "cgroup2" where clinux_filesystem_type(mount.place) == unifiedMagic:
                let names = try readSmallFile("\(mount.place)/cgroup.controllers").split { $0 == " " || $0 == "\n" }
                unified.formUnion(names.compactMap { CgroupController(rawValue: String($0)) })
            default: break
            }
        }
        let isUnified = clinux_filesystem_type(root) == unifiedMagic && legacy.isEmpty
        return CgroupLayout(mode: isUnified ? .unified : .hybrid, unified: unified, legacy: legacy)
    }

    /// Makes cgroup2 reachable at /sys/fs/cgroup for this process and its children, as OCI runtimes want it.
    ///
    /// On a hybrid host this mounts, so it must run in a mount namespace of our own; the version 1 hierarchies stay
    /// reachable below `runDirectory/cgroup1`. Doing it twice changes nothing.
    package static func prepare(runDirectory: String) throws -> CgroupLayout {
        let isMounted = clinux_filesystem_type(root) == unifiedMagic
        let own = "\(runDirectory)/cgroup1"
        let found = try detect(preferring: own)
        let wanted = CgroupController.allCases.filter { hierarchy(of: $0) != nil }
        if isMounted, wanted.allSatisfy({ found.legacy[$0]?.hasPrefix(own) == true }) { return found }
        guard isMountNamespaceOurs() else {
            throw SpriteError(
                .unsupported,
                "cannot prepare control groups: this host is hybrid and the process shares the host's mounts; "
                    + "run it in a mount namespace of its own (unshare --mount)")
        }
        try makeDirectory(own)
        for controller in wanted {
            let place = "\(own)/\(controller.rawValue)"
            if let source = found.legacy[controller] {
                guard !source.hasPrefix(own) else { continue }
                try makeDirectory(place)
                try checked(clinux_mount(source, place, nil, UInt(MS_BIND), nil), "bind \(source)")
            } else if let names = hierarchy(of: controller) {
                try makeDirectory(place)
                try checked(clinux_mount("cgroup", place, "cgroup", 0, names), "mount cgroup \(names)")
            }
        }
        if !isMounted {
            // A further view of a mounted cgroup2, where there is one: a mount of its own would set the options of the
            // whole hierarchy anew, which are the host's business.
            let result =
                try unifiedMount().map { clinux_mount($0, root, nil, UInt(MS_BIND), nil) }
                ?? clinux_mount("cgroup2", root, "cgroup2", 0, nil)
            // EBUSY: another driver of this process was quicker.
            if result != -EBUSY || clinux_filesystem_type(root) != unifiedMagic { try checked(result, "mount cgroup2") }
        }
        return try detect(preferring: own)
    }

    private static func unifiedMount() throws -> String? {
        try readSmallFile("/proc/self/mountinfo", bytesMax: 16 << 20).split(separator: "\n")
            .compactMap { MountLine($0) }
            .first { $0.type == "cgroup2" && $0.root == "/" && clinux_filesystem_type($0.place) == unifiedMagic }?.place
    }

    /// Every controller of the version 1 hierarchy that has this one, as its mount option; nil if none has it.
    private static func hierarchy(of controller: CgroupController) -> String? {
        let text = (try? readSmallFile("/proc/cgroups")) ?? ""
        let lines = text.split(separator: "\n").map { $0.split(separator: "\t") }
        guard let line = lines.first(where: { $0.first == controller.rawValue[...] }), line.count > 3,
            line[1] != "0", line[3] == "1"
        else { return nil }
        return lines.filter { $0.count > 3 && $0[1] == line[1] }.map { String($0[0]) }.joined(separator: ",")
    }

    /// Whether mounts made now stay out of the host's view, as far as can be seen.
    ///
    /// A process with more rights than ours, such as PID 1 of some hosts, does not show its namespace; so every
    /// ancestor is asked. False only if those that answer all share our mounts.
    package static func isMountNamespaceOurs() -> Bool {
        var own = stat()
        guard stat("/proc/self/ns/mnt", &own) == 0 else { return false }
        var answers = 0
        var process = getpid()
        while process > 1, let parent = parent(of: process), parent > 0 {
            process = parent
            var other = stat()
            guard stat("/proc/\(process)/ns/mnt", &other) == 0 else { continue }
            if other.st_ino != own.st_ino { return true }
            answers += 1
        }
        return answers == 0
    }

    private static func parent(of process: Int32) -> Int32? {
        guard let text = try? readSmallFile("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 1 ? Int32(fields[1]) : nil
    }
}

private let unifiedMagic: Int64 = 0x6367_7270
private let legacyMagic: Int64 = 0x0027_E0EB

/// One line of /proc/self/mountinfo; proc(5) describes it.
private struct MountLine {
    /// The part of the file system that is mounted.
    var root: Substring
    var place: String
    var type: Substring
    var options: Set<String>

    init?(_ line: Substring) {
        let fields = line.split(separator: " ")
        guard fields.count > 6, let separator = fields.firstIndex(of: "-"), fields.count > separator + 3 else {
            return nil
        }
        root = fields[3]
        place = String(fields[4])
        type = fields[separator + 1]
        options = Set(fields[separator + 3].split(separator: ",").map(String.init))
    }
}
