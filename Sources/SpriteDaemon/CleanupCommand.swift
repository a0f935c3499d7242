// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import CLinux
import Glibc
import Logging
import SpriteDomain
import SpriteNetwork
import SpriteRuntimes
import SpriteSandbox
import SpriteSystem

/// `sprited cleanup`: ends every sprite's processes and takes what the daemon made off the host.
struct CleanupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cleanup",
        abstract: "Stop all sprites of the data directory and remove what the daemon made on the host.",
        discussion: """
            Removes sandboxes, control groups, network devices, packet filter rules and the run directory. Disks, \
            checkpoints and the registry stay; the next `sprited serve` starts sprites again when they are used. \
            Refused while a daemon serves the data directory.
            """)

    @OptionGroup var data: DataOptions

    func run() async throws {
        let names = try data.names()
        LoggingSystem.bootstrap { JSONLogHandler(logLevel: .warning, label: $0) }
        let logger = Logger(label: "sprited")
        let lock = try takeDaemonLock(names)
        try makeRunDirectory(names.runDirectory)
        let sandboxes = try OCISandboxDriver(
            runtime: "crun", tag: names.tag, runDirectory: names.runDirectory,
            guestBinary: "/proc/self/exe", logger: logger)
        for sandbox in try await sandboxes.running() { try await sandboxes.destroy(sandbox.id) }
        sandboxes.removeEverything()
        endLeftRuntimes(runDirectory: names.runDirectory)
        let network = try BridgeNetwork(tag: names.tag, runDirectory: names.runDirectory, logger: logger)
        try await network.prepare()
        await network.shutdown(removeEverything: true)
        try removeTree(names.sessionDirectory)
        try removeTree(names.runDirectory)
        withExtendedLifetime(lock) {}
    }
}

/// Removes a directory of ours with what is mounted in it in this process's namespace.
///
/// `rm` keeps within one filesystem, so a mount that could not be taken away stays whole.
private func removeTree(_ path: String) throws {
    let places = try readSmallFile("/proc/self/mounts").split(separator: "\n")
        .compactMap { $0.split(separator: " ").dropFirst().first.map(String.init) }
        .filter { $0.hasPrefix(path + "/") }
    for place in places.reversed() { _ = clinux_detach_mount(place) }
    try runTool("rm", ["-rf", "--one-file-system", "--", path])
}
