// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSandbox
import Testing

extension SandboxTests {
    @Suite(.serialized)
    struct SeccompTests {
        let id = SpriteID.random()

        /// System calls of x86_64 with arguments under which they would at least get to say something else.
        private static let refused: [(name: String, call: String, error: Int)] = [
            ("btrfs SUBVOL_CREATE", "16, 0, 0x5000940e, 0", 1),
            ("btrfs SNAP_CREATE", "16, 0, 0x50009401, 0", 1),
            ("btrfs SUBVOL_CREATE_V2", "16, 0, 0x50009418, 0", 1),
            ("btrfs SNAP_CREATE_V2", "16, 0, 0x50009417, 0", 1),
            ("btrfs SUBVOL_CREATE with the upper half set", "16, 0, 0x15000940e, 0", 1),
            ("btrfs BALANCE", "16, 0, 0x5000940c, 0", 1),
            ("TIOCSTI", "16, 0, 0x5412, 0", 1),
            ("TIOCLINUX", "16, 0, 0x541c, 0", 1),
            ("unshare(CLONE_NEWUSER)", "272, 0x10000000", 1),
            ("clone3", "435, 0, 0", 38),
            ("keyctl", "250, 0, 0", 1),
            ("bpf", "321, 0, 0, 0", 1),
            ("perf_event_open", "298, 0, 0, 0, 0", 1),
            ("io_uring_setup", "425, 0, 0", 38),
            ("userfaultfd", "323, 0", 1),
            ("open_by_handle_at", "304, 0, 0, 0", 1),
            ("kexec_load", "246, 0, 0, 0, 0", 1),
            ("finit_module", "313, 0, 0, 0", 1),
            ("syslog", "103, 10, 0, 0", 1),
            ("fsopen", "430, 0, 0", 38),
            ("socket(AF_VSOCK)", "41, 40, 1, 0", 97),
            ("socket(AF_ALG)", "41, 38, 5, 0", 97),
            ("x32 unshare(CLONE_NEWUSER)", "0x40000110, 0x10000000", 1),
        ]

        @Test func `what reaches beyond the sprite is refused`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                #if arch(x86_64)
                for (name, call, error) in Self.refused {
                    let result = try fixture.run(id, "perl -e 'syscall(\(call)); printf \"%d\\n\", $!'")
                    #expect(result.output == "\(error)\n", "\(name)")
                }
                #endif
                #expect(try fixture.run(id, "unshare --user true").status != 0)
                #expect(try fixture.run(id, "mount -t tmpfs x /mnt").status != 0)
            }
        }

        @Test func `ordinary programs work`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                for command in [
                    "cp --reflink=auto /etc/passwd /root/p && rm /root/p", "perl -e 'fork or exit 0; wait'",
                    "bash -c 'cat <(echo x) | sort'", "ls -l /dev/ptmx /dev/pts /dev/shm /dev/null",
                    "dd if=/dev/zero of=/dev/shm/x bs=1k count=1", "chown 1000:1000 /tmp",
                ] {
                    let result = try fixture.run(id, command)
                    #expect(result.status == 0, "\(command): \(result.output)")
                }
            }
        }
    }
}
