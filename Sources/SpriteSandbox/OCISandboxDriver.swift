// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import FoundationEssentials
import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

/// Runs every sprite in a container of an OCI runtime, crun by default.
///
/// Folders in the run directory: `bundles/<id>` (config.json), `crun/` (the runtime's state), `state/<id>.json` (ours),
/// `guests/<id>` (shown as /.sprite), `guest/` (the program inside), `cgroup1/` (hierarchies of a hybrid host).
/// The run directory must be searchable by everybody (0711): the runtime mounts from it as the sprite's root.
package final class OCISandboxDriver: SandboxDriver {
    let runtime: RuntimeProgram
    /// Others that a sprite may choose, by name.
    private let choices: [String: RuntimeProgram]
    let guest: GuestFiles
    let cgroups: CgroupTree
    let runDirectory: String
    let logger: Logger
    private let initArguments: [String]
    private let extraMounts: @Sendable (SpriteID) -> [(source: String, destination: String)]
    /// Sandboxes that run or have run, until they are destroyed.
    let entries = Mutex<[SpriteID: Entry]>([:])

    struct Entry {
        var sandbox: Sandbox
        var process: ProcessIdentity
        var pidfd: Descriptor
    }

    /// Prepares the host: control groups, folders, the program for the inside.
    ///
    /// Blocks for some milliseconds; call once at start, in a mount namespace of our own.
    ///
    /// - Parameters:
    ///   - runtime: Path of crun.
    ///   - tag: Tells this daemon's control groups from those of others on the host.
    ///   - guestBinary: The static `sprite-env` on the host; copied.
    ///   - extraMounts: Folders of the host that a sprite sees writable, such as /var/lib/docker.
    ///   - initArguments: What runs as PID 1; other than the default only in tests.
    package init(
        runtime: String, tag: String, runDirectory: String, guestBinary: String,
        extraMounts: @escaping @Sendable (SpriteID) -> [(source: String, destination: String)] = { _ in [] },
        initArguments: [String] = ["/.sprite/bin/sprite-env", "init"], logger: Logger
    ) throws {
        guard let program = findProgram(runtime) else {
            throw SpriteError(
                .unsupported, "cannot run sprites: \(runtime) is not installed; install it (apt-get install crun)")
        }
        for name in ["bundles", "crun", "state"] {
            try makeDirectory("\(runDirectory)/\(name)", mode: name == "bundles" ? 0o711 : 0o700)
        }
        // One folder of state for all: nothing but ids and folders of the same form lie in it.
        let root = "\(runDirectory)/crun"
        self.runtime = RuntimeProgram(path: program, root: root)
        var choices: [String: RuntimeProgram] = [:]
        for name in Self.choosable { choices[name] = findProgram(name).map { RuntimeProgram(path: $0, root: root) } }
        if let own = program.split(separator: "/").last { choices[String(own)] = self.runtime }
        self.choices = choices
        self.guest = GuestFiles(runDirectory: runDirectory)
        self.runDirectory = runDirectory
        self.extraMounts = extraMounts
        self.initArguments = initArguments
        self.logger = logger
        cgroups = try CgroupTree(layout: CgroupLayout.prepare(runDirectory: runDirectory), tag: tag)
        try guest.prepare(binary: guestBinary)
    }

    package func limitHits(_ id: SpriteID) -> LimitHits { cgroups.limitHits(id) }
    package func checkLimits(_ limits: ResourceLimits) throws { try cgroups.check(limits) }

    /// Runtimes that take the same command line and configuration.
    private static let choosable = ["crun", "runc"]

    package func checkRuntime(_ name: String) throws { _ = try program(name) }

    private func program(_ name: String?) throws -> RuntimeProgram {
        guard let name else { return runtime }
        if let found = choices[name] { return found }
        guard Self.choosable.contains(name) else {
            let known = choices.keys.sorted().joined(separator: ", ")
            throw SpriteError(.invalidRequest, "cannot use oci_runtime '\(name.prefix(64))': there are \(known)")
        }
        throw SpriteError(
            .unsupported, "cannot use oci_runtime '\(name)': it is not installed (apt-get install \(name))")
    }

    package func start(_ specification: SandboxSpecification) async throws -> Sandbox {
        try checkLimits(specification.limits)
        return try await blocking { try self.startNow(specification) }
    }

    package func freeze(_ id: SpriteID) async throws {
        try requireRunning(id)
        try await blocking { try self.cgroups.freeze(id) }
    }

    package func thaw(_ id: SpriteID) async throws {
        try requireRunning(id)
        try cgroups.thaw(id)
    }

    package func setLimits(_ id: SpriteID, _ limits: ResourceLimits) async throws {
        try checkLimits(limits)
        try requireRunning(id)
        try await blocking { try self.cgroups.setLimits(id, limits) }
    }

    package func showAuthority(_ id: SpriteID, _ certificate: String) async throws {
        try await blocking { try self.guest.showAuthority(id, certificate) }
    }

    package func showPolicy(_ id: SpriteID, _ text: String) async throws {
        try await blocking { try self.guest.showPolicy(id, text) }
    }

    package func destroy(_ id: SpriteID) async throws {
        try await blocking { try self.destroyNow(id) }
    }

    package func waitForEnd(_ sandbox: Sandbox) async {
        let pidfd = entries.withLock { entries in
            entries[sandbox.id].flatMap { $0.sandbox == sandbox ? $0.pidfd : nil }
        }
        guard let pidfd else { return }
        await becomesReadable(pidfd)
    }

    package func waitForEnd(_ sandbox: Sandbox, within limit: Duration) async -> Bool {
        let pidfd = entries.withLock { entries in
            entries[sandbox.id].flatMap { $0.sandbox == sandbox ? $0.pidfd : nil }
        }
        guard let pidfd else { return true }
        let deadline = ContinuousClock.now + limit
        let ended = try? await blocking {
            while true {
                let left = ContinuousClock.now.duration(to: deadline)
                guard left > .zero else { return false }
                var polled = pollfd(fd: pidfd.number, events: Int16(POLLIN), revents: 0)
                if poll(&polled, 1, Int32(clamping: left.components.seconds * 1000 + 100)) > 0 { return true }
            }
        }
        return ended ?? false
    }

    /// Removes what the daemon itself left in /sys/fs/cgroup. Only when no sprite runs.
    package func removeEverything() { cgroups.removeAll() }

    func statePath(_ id: SpriteID) -> String { "\(runDirectory)/state/\(id).json" }
    func bundlePath(_ id: SpriteID) -> String { "\(runDirectory)/bundles/\(id)" }

    func requireRunning(_ id: SpriteID) throws {
        guard entries.withLock({ $0[id] != nil }) else {
            throw SpriteError(.conflict, "cannot reach the sprite's sandbox: it does not run")
        }
    }

    private func startNow(_ specification: SandboxSpecification) throws -> Sandbox {
        let id = specification.id
        guard !entries.withLock({ $0[id] != nil }) else {
            throw SpriteError(.conflict, "cannot start the sprite's sandbox: it runs already")
        }
        // What an OCI runtime makes in /dev it makes by the host's paths: through a link there, on the host.
        if let place = obstacle(specification, ["/dev", "/proc", "/sys", "/.sprite"]) { throw cannotMount(place) }
        do {
            let bundle = bundlePath(id)
            if mkdir(bundle, 0o700) < 0 {
                // Left over from a start that a crash cut short.
                guard errno == EEXIST else { throw SystemError(errno, "make directory \(bundle)") }
                try destroyNow(id)
                try makeDirectory(bundle, mode: 0o700)
            }
            try guest.make(id)
            try writeConfiguration(specification, bundle)
            try traced("cgroup.make") { try cgroups.make(id, specification.limits) }
            if specification.initSystem.isOfBase { try cgroups.delegate(id) }
            let processID = try program(specification.ociRuntime).run(
                id.rawValue, bundle: bundle, descriptor: specification.agentSocket, timeout: Limits.startTimeout)
            return try register(specification, processID)
        } catch {
            do { try destroyNow(id) } catch {
                logger.error("cannot clean up a sandbox that did not start", metadata: ["error": "\(error)"])
            }
            if let error = error as? SpriteError { throw error }
            let places = ["/tmp", "/run"] + extraMounts(id).map(\.destination)
            if let place = obstacle(specification, places) { throw cannotMount(place, cause: error) }
            throw SpriteError(
                .internalError, "cannot start the sprite: its sandbox could not be made", cause: error)
        }
    }

    /// What lies on the disk in place of a folder that one of these needs, as the sprite names it. Root inside may replace
    /// folders, and images bring what they like.
    private func obstacle(_ specification: SandboxSpecification, _ places: [String]) -> String? {
        for place in places {
            var path = ""
            for name in place.split(separator: "/") {
                path += "/\(name)"
                var facts = stat()
                // What is missing is made.
                guard lstat(specification.root + path, &facts) == 0 else { break }
                if facts.st_mode & S_IFMT != S_IFDIR { return path }
            }
        }
        return nil
    }

    private func cannotMount(_ place: String, cause: (any Error)? = nil) -> SpriteError {
        SpriteError(
            .conflict,
            "cannot start the sprite: \(place) on its disk is not a folder, and something has to be mounted there "
                + "or below; undo what put it there, or restore a checkpoint", cause: cause)
    }

    private func writeConfiguration(_ specification: SandboxSpecification, _ bundle: String) throws {
        let id = specification.id
        let binds =
            [
                RuntimeConfiguration.Bind(
                    source: guest.folder(id), destination: "/.sprite", isReadOnly: true),
                RuntimeConfiguration.Bind(
                    source: guest.programs, destination: "/.sprite/bin", isReadOnly: true),
            ]
            + extraMounts(id).map {
                RuntimeConfiguration.Bind(source: $0.source, destination: $0.destination, isReadOnly: false)
            }
        let configuration = RuntimeConfiguration(
            specification, initArguments: initArguments, cgroupsPath: cgroups.runtimePath(id), binds: binds)
        try writeSmallFile(
            "\(bundle)/config.json", String(decoding: JSONEncoder().encode(configuration), as: UTF8.self),
            flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
    }

    private func register(_ specification: SandboxSpecification, _ processID: Int32) throws -> Sandbox {
        guard let process = ProcessIdentity(running: processID), let pidfd = process.open() else {
            throw RuntimeFailure(program: runtime.path, log: "PID 1 ended at once", output: "")
        }
        try cgroups.enter(specification.id, processID: processID)
        let address = specification.slot.address
        let initSystem = specification.initSystem
        try SandboxState(process: process, address: address, initSystem: initSystem).write(statePath(specification.id))
        let sandbox = Sandbox(
            id: specification.id, processID: processID, address: address, initSystem: initSystem)
        entries.withLock { $0[specification.id] = Entry(sandbox: sandbox, process: process, pidfd: pidfd) }
        return sandbox
    }

    func destroyNow(_ id: SpriteID) throws {
        do {
            try traced("cgroup.kill") { try cgroups.destroy(id) }
            try runtime.forget(id.rawValue)
            // The state goes last: as long as it is there, a crash here is noticed at the next start.
            try removeTree(bundlePath(id))
            try guest.remove(id)
            if unlink(statePath(id)) < 0, errno != ENOENT { throw SystemError(errno, "remove \(statePath(id))") }
        } catch let error as SystemError {
            throw SpriteError(.internalError, "cannot remove the sprite's sandbox", cause: error)
        }
        entries.withLock { _ = $0.removeValue(forKey: id) }
    }
}

/// Waits without a thread for a descriptor, such as a pidfd, to become readable.
private func becomesReadable(_ descriptor: Descriptor) async {
    await withCheckedContinuation { continuation in
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor.number, queue: waitQueue)
        source.setEventHandler { source.cancel() }
        source.setCancelHandler { withExtendedLifetime(descriptor) { continuation.resume() } }
        source.activate()
    }
}

private let waitQueue = DispatchQueue(label: "sprite.sandbox.wait")
