// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// The process that fetches ahead for one mount; ends when this is let go, and with the daemon.
final class PrefetchProcess: Sendable {
    private let lifeline: Descriptor

    init(profile: String, metadata: String, mount: String, layout: String) throws {
        var ends: [Int32] = [-1, -1]
        try checked(clinux_pipe(&ends, 0), "pipe")
        let input = Descriptor(owning: ends[0])
        lifeline = Descriptor(owning: ends[1])
        let null = try Descriptor.open("/dev/null", O_WRONLY)
        var request = SpawnRequest(
            paths: ["/proc/self/exe"],
            arguments: [
                "sprited", "runtimes", "fetch-ahead", "--metadata", metadata, "--mount", mount, "--layout", layout,
                profile,
            ],
            environment: JuiceFS.environment(), directory: "/",
            descriptors: [input.number, null.number, null.number])
        request.newSession = true
        let child = try withExtendedLifetime((input, null)) { try spawn(request) }
        let process = ProcessMark(child.processID, pidfd: child.pidfd, isChild: true)
        startThread { process.waitForEnd() }
    }
}
