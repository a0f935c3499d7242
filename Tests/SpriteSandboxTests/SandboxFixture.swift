// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteDomain
import SpriteSandbox
import SpriteSystem
import Testing

/// What these tests need of the machine: root, crun, and mounts of our own (`unshare --mount`).
enum Host {
    static let canRunSandboxes =
        geteuid() == 0 && findProgram("crun") != nil && CgroupLayout.isMountNamespaceOurs() || requires("sandbox")

    /// `SPRITE_REQUIRE=sandbox,…` makes tests run, and so fail, where they would be skipped.
    static func requires(_ what: String) -> Bool {
        getenv("SPRITE_REQUIRE").map { String(cString: $0).split(separator: ",").contains(what[...]) } ?? false
    }
}

/// Everything that runs sandboxes, one after the other: the fixtures mount, and freezing is measured.
@Suite(.serialized, .enabled(if: Host.canRunSandboxes, "needs root, crun and mounts of its own"))
struct SandboxTests {}

/// A driver in a scratch folder whose sprites have the host's own root as their base.
///
/// PID 1 of every sandbox is a shell that takes its commands from descriptor 3.
final class SandboxFixture {
    let tag: String
    let directory: String
    private(set) var driver: OCISandboxDriver
    private var shells: [SpriteID: Descriptor] = [:]
    private var user: Int32 = -1

    static let shell = ["/bin/sh", "-c", "exec /bin/sh <&3 >&3 2>&3"]

    init(initArguments: [String] = SandboxFixture.shell) throws {
        tag = "t" + String(UInt32.random(in: .min ... .max), radix: 16)
        directory = "/tmp/sprite-sandbox-\(tag)"
        for folder in ["", "/run", "/base", "/disks", "/roots"] {
            try makeDirectory(directory + folder, mode: 0o711)
        }
        try checked(clinux_make_namespaces(100_000, 65_536, &user, nil), "make a user namespace")
        let base = try checked(clinux_idmapped_clone("/", user), "idmap the host's root")
        try checked(clinux_attach_mount(base, "\(directory)/base"), "attach the base")
        close(base)
        try checked(clinux_mount("disks", "\(directory)/disks", "tmpfs", 0, "mode=711"), "mount tmpfs")
        driver = try SandboxFixture.driver(tag, directory, initArguments)
    }

    /// Another driver over the same folders, as after a restart of the daemon.
    func restart(initArguments: [String] = SandboxFixture.shell) throws {
        driver = try SandboxFixture.driver(tag, directory, initArguments)
    }

    func start(_ id: SpriteID, limits: ResourceLimits = .init()) async throws -> Sandbox {
        var sockets: [Int32] = [-1, -1]
        try system("socketpair") {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &sockets)
        }
        let inner = Descriptor(owning: sockets[1])
        shells[id] = Descriptor(owning: sockets[0])
        var user: Int32 = -1
        var network: Int32 = -1
        try checked(clinux_make_namespaces(100_000, 65_536, &user, &network), "make namespaces")
        defer {
            close(user)
            close(network)
        }
        let slot = NetworkSlot(userNamespace: user, networkNamespace: network, address: "10.0.0.2")
        return try await driver.start(
            SandboxSpecification(
                id: id, hostname: "tester", root: try root(id), slot: slot, limits: limits, agentSocket: inner.number))
    }

    /// Runs a command in the sandbox and returns what it printed and its status.
    func run(_ id: SpriteID, _ command: String, seconds: Int32 = 30) throws -> (output: String, status: Int32) {
        guard let shell = shells[id] else { throw SystemError(ESRCH, "find the shell") }
        // A number of its own tells this command's end from that of one whose answer nobody waited for.
        let mark = "@@END-\(UInt32.random(in: .min ... .max)) "
        var line = "{ \(command)\n} 2>&1 </dev/null; echo \"\(mark)$?\"\n"
        try line.withUTF8 { bytes in
            guard send(shell.number, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
            else { throw SystemError(errno, "send") }
        }
        var collected: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let text = String(decoding: collected, as: UTF8.self)
            if let end = text.split(separator: "\n").last(where: { $0.hasPrefix(mark) }), text.hasSuffix("\n") {
                let output = text.replacing("\(end)\n", with: "")
                return (output, Int32(end.dropFirst(mark.count)) ?? -1)
            }
            var polled = pollfd(fd: shell.number, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, seconds * 1000) > 0 else { throw SystemError(ETIMEDOUT, "run \(command)") }
            let count = read(shell.number, &buffer, buffer.count)
            guard count > 0 else { throw SystemError(EPIPE, "run \(command): \(text)") }
            collected += buffer[..<count]
        }
    }

    func tearDown() async throws {
        for id in shells.keys { try await driver.destroy(id) }
        driver.removeEverything()
        for folder in try directoryEntries("\(directory)/roots") {
            _ = clinux_detach_mount("\(directory)/roots/\(folder)")
        }
        for folder in ["base", "disks", "run/guest", "run/cgroup1/memory", "run/cgroup1/cpu", "run/cgroup1/pids"] {
            _ = clinux_detach_mount("\(directory)/\(folder)")
        }
        close(user)
        try removeTree(directory)
    }

    /// Everything on the host that has this sandbox's name.
    func traces(_ id: SpriteID) throws -> [String] {
        let folders = ["bundles", "crun", "state", "guests"].map { "\(directory)/run/\($0)" }
        var places = folders + ["/sys/fs/cgroup/sprited-\(tag)"]
        places += ["memory", "cpu", "pids"].map { "\(directory)/run/cgroup1/\($0)/sprited-\(tag)" }
        return try places.flatMap { place in
            try directoryEntries(place).filter { $0.hasPrefix(id.rawValue) }.map { "\(place)/\($0)" }
        }
    }

    private func root(_ id: SpriteID) throws -> String {
        let disk = "\(directory)/disks/\(id)"
        let root = "\(directory)/roots/\(id)"
        if access(root, F_OK) == 0 { return root }
        try makeDirectory(disk, mode: 0o711)
        for folder in ["upper", "work"] { try makeDirectory("\(disk)/\(folder)", owner: 100_000) }
        try makeDirectory(root, mode: 0o711)
        let options = "lowerdir=\(directory)/base,upperdir=\(disk)/upper,workdir=\(disk)/work"
        try checked(clinux_mount("overlay", root, "overlay", 0, options), "mount overlay")
        return root
    }

    private static func driver(
        _ tag: String, _ directory: String, _ initArguments: [String]
    ) throws -> OCISandboxDriver {
        try OCISandboxDriver(
            runtime: "crun", tag: tag, runDirectory: "\(directory)/run", guestBinary: "/bin/true",
            initArguments: initArguments, logger: Logger(label: "test"))
    }
}

/// Runs a body with a fixture and removes it afterwards, also after a failure.
func withSandboxes(
    initArguments: [String] = SandboxFixture.shell, _ body: (SandboxFixture) async throws -> Void
) async throws {
    let fixture = try SandboxFixture(initArguments: initArguments)
    do { try await body(fixture) } catch {
        try? await fixture.tearDown()
        throw error
    }
    try await fixture.tearDown()
}
