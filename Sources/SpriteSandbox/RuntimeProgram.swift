// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// The program that makes containers: crun, or another with the same command line.
struct RuntimeProgram: Sendable {
    let path: String
    /// Where it keeps its own state.
    let root: String

    /// Runs a bundle; PID 1 inherits `descriptor` as its descriptor 3.
    ///
    /// Standard input, output and error of PID 1 are a memory file, not /dev/null: the runtime makes the container's
    /// root the owner of these three, and would give the host's /dev/null away.
    ///
    /// - Returns: The pid of PID 1 as the host sees it.
    func run(_ name: String, bundle: String, descriptor: Int32, timeout: Duration) throws -> Int32 {
        try traced("command.\(path.split(separator: "/").last ?? "")", "run") {
            try runNow(name, bundle: bundle, descriptor: descriptor, timeout: timeout)
        }
    }

    private func runNow(_ name: String, bundle: String, descriptor: Int32, timeout: Duration) throws -> Int32 {
        let output = Descriptor(owning: try checked(clinux_memory_file("sprite-output"), "make a memory file"))
        let log = "\(bundle)/log"
        let pidFile = "\(bundle)/pid"
        var arguments = [path, "--root", root, "--log", log]
        if path.hasSuffix("crun") { arguments.append("--cgroup-manager=cgroupfs") }
        arguments += ["run", "--detach", "--preserve-fds", "1", "--bundle", bundle, "--pid-file", pidFile, name]
        let child = try spawn(
            SpawnRequest(
                paths: [path], arguments: arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"],
                descriptors: [output.number, output.number, output.number, descriptor]))
        var polled = pollfd(fd: child.pidfd.number, events: Int16(POLLIN), revents: 0)
        let deadline = ContinuousClock.Instant.now + timeout
        while poll(&polled, 1, 100) <= 0 {
            if ContinuousClock.now > deadline { clinux_pidfd_send_signal(child.pidfd.number, SIGKILL) }
        }
        guard case .exited(0) = try child.wait() else {
            throw RuntimeFailure(
                program: path, log: lastLines(log),
                output: lastLines("/proc/self/fd/\(output.number)"))
        }
        guard let processID = Int32(try readSmallFile(pidFile)), processID > 1 else {
            throw RuntimeFailure(program: path, log: "no process number in \(pidFile)", output: "")
        }
        return processID
    }

    /// Forgets a container whose processes and control groups are gone.
    ///
    /// The runtime's own `delete` looks every 10 ms whether they are; its state is nothing but this folder.
    func forget(_ name: String) throws { try removeTree("\(root)/\(name)") }

    private func lastLines(_ path: String) -> String {
        guard let text = try? readSmallFile(path, bytesMax: 64 << 10) else { return "" }
        return text.split(separator: "\n").suffix(5).joined(separator: "\n")
    }
}

/// The OCI runtime did not start a container; for the log.
struct RuntimeFailure: Error, CustomStringConvertible {
    var program: String
    var log: String
    /// What PID 1 printed, if it came so far. From inside: nothing to rely on.
    var output: String

    var description: String { "\(program) failed: \(log) \(output)" }
}
