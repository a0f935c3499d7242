// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// System calls that processes in a sprite may not make.
///
/// Everything is allowed except what reaches beyond the sprite's own namespaces, or opens kernel code that has been a
/// way out of containers and that ordinary programs do without. EPERM where a program should believe that it is not
/// allowed, ENOSYS where it then falls back to an older call. The shape is that of `linux.seccomp` in config-linux.md
/// of the OCI runtime specification.
struct SeccompProfile: Codable {
    var defaultAction = "SCMP_ACT_ALLOW"
    var architectures: [String]
    var syscalls: [Rule]

    struct Rule: Codable {
        var names: [String]
        var action = "SCMP_ACT_ERRNO"
        var errnoRet: UInt32
        var args: [Argument]?

        func without(_ name: String) -> Rule {
            var rule = self
            rule.names.removeAll { $0 == name }
            return rule
        }
    }

    struct Argument: Codable {
        var index: UInt32
        /// For SCMP_CMP_MASKED_EQ the mask, with `valueTwo` what must remain.
        var value: UInt64
        var valueTwo: UInt64
        var op = "SCMP_CMP_MASKED_EQ"
    }

    static let sprite = SeccompProfile(architectures: nativeArchitectures, syscalls: rules)

    /// With reboot(2), by which an init system ends: in a process namespace it ends that and nothing else.
    static let spriteWithInit = SeccompProfile(
        architectures: nativeArchitectures, syscalls: rules.map { $0.without("reboot") })

    private static let rules: [Rule] =
        [
            // Another kernel, or new code in this one.
            deny("kexec_load", "kexec_file_load"),
            deny("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
            // Key rings are not divided by namespaces: keys of the host's user 100000 would be shared by all sprites.
            deny("add_key", "request_key", "keyctl"),
            // Programs in the kernel, and its performance counters: wide, often broken, of no use without host rights.
            deny("bpf", "perf_event_open"),
            // Stops kernel threads at a chosen place; the usual tool to win a race against the kernel.
            deny("userfaultfd"),
            // Large and young; programs fall back to epoll and ordinary reads.
            absent("io_uring_setup", "io_uring_enter", "io_uring_register"),
            // Opens files by number, past the sprite's root: the classic way out of a container.
            deny("open_by_handle_at"),
            // The host's clock.
            deny("settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64"),
            // The host's swap, quotas, accounting and power.
            deny("swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "reboot"),
            // The kernel's log shows addresses and other sprites' business.
            deny("syslog"),
            // Hardware ports, and real mode of x86.
            deny("iopl", "ioperm", "vm86", "vm86old"),
            // Long obsolete; some kernels still have the code.
            absent("nfsservctl", "uselib", "_sysctl", "sysfs", "ustat", "lookup_dcookie", "remap_file_pages"),
            // The newer way to mount: nothing inside may mount, and tools fall back to mount(2), which says so.
            absent("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr"),
            // Memory placement across the machine.
            deny("migrate_pages", "move_pages"),

            // User namespaces inside: in one, anybody has every right over new mounts, packet filters and the like,
            // which is where most local root exploits of recent years began. clone3 passes its flags in memory, where
            // a filter cannot look; the C library falls back to clone, whose flags it can see.
            absent("clone3"),
            rule(["clone", "unshare"], EPERM, argument: 0, mask: newUserNamespace, equals: newUserNamespace),

            // Terminals: input as if typed (TIOCSTI), and selection and the like of the host's console (TIOCLINUX).
            rule(["ioctl"], EPERM, argument: 1, mask: 0xFFFF_FFFF, equals: 0x5412),
            rule(["ioctl"], EPERM, argument: 1, mask: 0xFFFF_FFFF, equals: 0x541C),

            // Sockets that no network namespace holds (40 AF_VSOCK reaches the hypervisor and the host), and families
            // whose code is rarely used and has been broken often (21 RDS, 30 TIPC, 38 ALG, 42 QIPCRTR).
            socket(40), socket(21), socket(30), socket(38), socket(42),
        ] + btrfs + sockets32

    /// Every btrfs ioctl (type 0x94) but 2 and 16, which defragment, and 9, 13 and 54, which every file system has
    /// (FICLONE, FICLONERANGE, FIDEDUPERANGE). A subvolume made inside (1, 14, 23, 24) would be empty in every
    /// checkpoint; the others concern the host's pool. Matched by type and number only, so that no variant of size or
    /// direction slips through; a range of numbers is one rule where bits allow.
    private static let btrfs: [Rule] = [
        (0xFFFF, 0x9401), (0xFFFF, 0x9403), (0xFFFC, 0x9404), (0xFFFF, 0x9408), (0xFFFE, 0x940A), (0xFFFF, 0x940C),
        (0xFFFE, 0x940E), (0xFFFF, 0x9411), (0xFFFE, 0x9412), (0xFFFC, 0x9414), (0xFFF8, 0x9418), (0xFFF0, 0x9420),
        (0xFFFC, 0x9430), (0xFFFE, 0x9434), (0xFFFF, 0x9437), (0xFFF8, 0x9438), (0xFFC0, 0x9440), (0xFF80, 0x9480),
    ].map { rule(["ioctl"], EPERM, argument: 1, mask: $0.0, equals: $0.1) }

    #if arch(x86_64)
    private static let nativeArchitectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    /// 32-bit x86 can make sockets through socketcall(1, …), whose arguments a filter cannot see, and with it the ones
    /// refused above. The call socket(2) is there as well.
    private static let sockets32 = [
        rule(["socketcall"], ENOSYS, argument: 0, mask: 0xFFFF_FFFF, equals: 1)
    ]
    #else
    private static let nativeArchitectures = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    private static let sockets32: [Rule] = []
    #endif

    private static let newUserNamespace: UInt64 = 0x1000_0000
    private static let EPERM: UInt32 = 1
    private static let ENOSYS: UInt32 = 38

    private static func deny(_ names: String...) -> Rule { Rule(names: names, errnoRet: EPERM) }
    private static func absent(_ names: String...) -> Rule { Rule(names: names, errnoRet: ENOSYS) }

    private static func socket(_ family: UInt64) -> Rule {
        rule(["socket", "socketpair"], 97, argument: 0, mask: 0xFFFF_FFFF, equals: family)  // EAFNOSUPPORT
    }

    /// Compares under a mask: the kernel looks at the lower half of these arguments only, so a caller could otherwise
    /// slip past by setting a bit of the upper half.
    private static func rule(
        _ names: [String], _ error: UInt32, argument: UInt32, mask: UInt64, equals value: UInt64
    ) -> Rule {
        Rule(names: names, errnoRet: error, args: [Argument(index: argument, value: mask, valueTwo: value)])
    }
}
