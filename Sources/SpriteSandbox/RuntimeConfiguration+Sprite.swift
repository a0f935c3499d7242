// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain

/// Where user and group 0 of every sprite are on the host, and how many follow.
package enum UserMapping {
    package static let hostFirst: UInt32 = 100_000
    package static let count: UInt32 = 65_536
}

extension RuntimeConfiguration {
    /// A host directory shown inside.
    struct Bind {
        var source: String
        var destination: String
        var isReadOnly: Bool

        /// Unlike what belongs to the sprite's guide and guest.
        var isOfDisk: Bool { !destination.hasPrefix("/.sprite") }
    }

    init(
        _ specification: SandboxSpecification, initArguments: [String], cgroupsPath: String, binds: [Bind]
    ) {
        let own = getpid()
        let isForeign = specification.initSystem.isOfBase
        // Ends the sprite's own process namespace only.
        let capabilities = grantedCapabilities + (isForeign ? ["CAP_SYS_BOOT"] : [])
        process = Process(
            args: isForeign ? initArguments.dropLast() + ["boot", specification.initSystem.rawValue] : initArguments,
            env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
            capabilities: Dictionary(
                uniqueKeysWithValues: ["bounding", "effective", "permitted"].map { ($0, capabilities) }),
            rlimits: [openFileLimit()],
            // When the host runs out of memory, a sprite goes before the daemon that keeps all of them.
            oomScoreAdj: 300)
        root = Root(path: specification.root)
        hostname = specification.hostname
        func mount(_ bind: Bind) -> Mount {
            Mount(
                destination: bind.destination, type: "bind", source: bind.source,
                // Writable ones hold images of containers, whose programs may be set-user-ID. crun forgets `nodev` on
                // them, but not `rnodev`.
                options: ["bind", "nodev"] + (bind.isReadOnly ? ["ro", "nosuid"] : ["rnodev"]))
        }
        let fixed = isForeign ? standardMountsWithInit : standardMounts
        // Folders above those of the disk may be links: while nothing else is mounted they lead to the disk only.
        mounts =
            binds.filter(\.isOfDisk).map(mount) + fixed + binds.filter { !$0.isOfDisk }.map(mount)
        let mapping = Mapping(containerID: 0, hostID: UserMapping.hostFirst, size: UserMapping.count)
        linux = Linux(
            namespaces: [
                // Joined through our descriptors: nothing else holds these namespaces.
                Namespace(type: "user", path: "/proc/\(own)/fd/\(specification.slot.userNamespace)"),
                Namespace(type: "network", path: "/proc/\(own)/fd/\(specification.slot.networkNamespace)"),
                Namespace(type: "pid"), Namespace(type: "ipc"), Namespace(type: "uts"), Namespace(type: "mount"),
                Namespace(type: "cgroup"),
            ],
            uidMappings: [mapping],
            gidMappings: [mapping],
            cgroupsPath: cgroupsPath,
            seccomp: isForeign ? .spriteWithInit : .sprite,
            maskedPaths: hiddenPaths,
            readonlyPaths: unwritablePaths)
    }
}

/// Rights over the sprite's own user namespace, not over the host.
///
/// The first group is what containers usually have: sudo, apt and ping need it. SYS_PTRACE is for `sudo strace -p` and
/// gdb, which look only at processes of the same namespace. Not granted: SYS_ADMIN and NET_ADMIN, which inside a user
/// namespace open much rarely tried kernel code (mounting, packet filters) to whoever is in the sprite.
private let grantedCapabilities = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
    "CAP_SYS_PTRACE",
]

private let standardMounts: [RuntimeConfiguration.Mount] = [
    .init(destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"]),
    .init(destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=65536k"]),
    .init(
        destination: "/dev/pts", type: "devpts", source: "devpts",
        options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    .init(
        destination: "/dev/shm", type: "tmpfs", source: "shm", options: ["nosuid", "nodev", "noexec", "mode=1777"]),
    .init(destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"]),
    .init(destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"]),
    .init(
        destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup",
        options: ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    .init(destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "mode=1777"]),
    .init(destination: "/run", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "mode=755"]),
]

/// An init system of the base makes groups, and cannot mount what it does not find.
private let standardMountsWithInit: [RuntimeConfiguration.Mount] =
    standardMounts.map { mount in
        guard mount.type == "cgroup" else { return mount }
        var writable = mount
        writable.options.removeAll { $0 == "ro" }
        return writable
    } + [
        .init(
            destination: "/run/lock", type: "tmpfs", source: "tmpfs",
            options: ["nosuid", "nodev", "noexec", "mode=1777", "size=5242880"])
    ]

/// Facts about the host that are nobody's business inside; the usual list of OCI runtimes.
private let hiddenPaths = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]

private let unwritablePaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

/// What a login on a Debian machine gets: a low soft limit, which select(2) needs, that programs may raise.
private func openFileLimit() -> RuntimeConfiguration.ResourceLimit {
    var own = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &own)
    let hard = min(UInt64(own.rlim_max), 524_288)
    return .init(type: "RLIMIT_NOFILE", soft: min(1024, hard), hard: hard)
}
