// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem

/// The mounted layers of one daemon: one JuiceFS for each version, shared by all sprites that have it.
///
/// JuiceFS outlives the daemon, as sprites do. What must not be lost while either is replaced is the descriptor of the
/// mount; ``FuseKeeper`` says how it is kept. Only if both are killed in the same moment is a mount lost, and then the
/// sprites on it are stopped, to start again on a new one when they are used.
package actor RuntimesMounts: RuntimesDriver {
    private final class Mounted {
        /// Where the layer's root is.
        let root: String
        let keeper: FuseKeeper
        let process: ProcessMark
        var lastUse = ContinuousClock.now
        var prefetcher: PrefetchProcess?
        /// How far its log was looked at.
        var heard: off_t = 0
        /// What of it was reported lately.
        var faults: [LayerFault: ContinuousClock.Instant] = [:]
        let started = ContinuousClock.now
        /// When this JuiceFS first gave up reading something.
        var firstFault: ContinuousClock.Instant?
        /// How long it is then left as it is.
        var patience = patienceMin
        init(root: String, keeper: FuseKeeper, process: ProcessMark) {
            self.root = root
            self.keeper = keeper
            self.process = process
        }
    }

    private let store: LayerStore
    private let runDirectory: String
    private let cacheMiB: Int
    private var lookup: NamesLookup
    private let logger: Logger
    private var mounted: [RuntimesVersion: Mounted] = [:]
    /// Mounts under way: whoever asks meanwhile waits for the same one.
    private var starting: [RuntimesVersion: Task<String, any Error>] = [:]

    /// How long a first mount may take.
    private static let startSeconds = 30
    /// JuiceFS reports every failed request; more than this of it helps nobody.
    private static let logBytesMax: off_t = 4 << 20
    private static let (patienceMin, patienceMax) = (Duration.seconds(1), Duration.seconds(30))

    /// - Parameter lookup: Who knows the names of files.
    package init(
        store: LayerStore, runDirectory: String, cacheBytes: UInt64?, lookup: NamesLookup = .kernel, logger: Logger
    ) {
        self.store = store
        self.lookup = lookup
        self.runDirectory = "\(runDirectory)/runtimes"
        cacheMiB = Int(clamping: (cacheBytes ?? 4 << 30) >> 20)
        self.logger = logger
    }

    private func folder(_ id: RuntimesVersion) -> String { "\(runDirectory)/\(id)" }
    private func target(_ id: RuntimesVersion) -> String { "\(folder(id))/mount" }
    /// Where the kernel has the names, if it has them.
    private func namesTarget(_ id: RuntimesVersion) -> String { "\(folder(id))/names" }
    /// On the disk: the kernel reads no image that lies in memory.
    private func image(_ id: RuntimesVersion) -> String { "\(store.folder)/mounted/\(id).erofs" }

    // MARK: Choosing

    package func resolve(_ wish: String?, base: BaseName) async throws -> RuntimesVersion? {
        guard let wish else { return try choice(base) }
        if wish == "none" { return nil }
        let info = try store.find(wish)
        guard info.base == base.rawValue else {
            throw SpriteError(
                .conflict,
                "cannot use runtimes \(try info.id): it was built on base '\(info.base)', the sprite's is '\(base)'")
        }
        return try info.id
    }

    /// A choice whose layer is gone is no choice; an operator who removed it meant that.
    private func choice(_ base: BaseName) throws -> RuntimesVersion? {
        guard let chosen = try store.choice(for: base), (try? store.info(chosen)) != nil else { return nil }
        return chosen
    }

    package func newest(of version: RuntimesVersion, base: BaseName) async throws -> RuntimesVersion {
        if let chosen = try choice(base), chosen.name == version.name { return chosen }
        let all = try store.list().filter { $0.name == version.name && $0.base == base.rawValue }
        return try all.first?.id ?? version
    }

    // MARK: Mounting

    package func mount(_ id: RuntimesVersion, for sprite: SpriteID) async throws -> String {
        let path = try await mount(id)
        if mounted(by: sprite) != id {
            try makeFolder("\(runDirectory)/sprites")
            try writeSmallFile("\(runDirectory)/sprites/\(sprite)", "\(id)\n", flags: O_WRONLY | O_CREAT | O_TRUNC)
        }
        return path
    }

    package nonisolated func mounted(by sprite: SpriteID) -> RuntimesVersion? {
        guard let text = try? readSmallFile("\(runDirectory)/sprites/\(sprite)", bytesMax: 256) else { return nil }
        return try? RuntimesVersion(String(text.prefix { $0 != "\n" }))
    }

    package nonisolated func release(_ sprite: SpriteID) { unlink("\(runDirectory)/sprites/\(sprite)") }

    private func mount(_ id: RuntimesVersion) async throws -> String {
        if let known = mounted[id] {
            known.lastUse = .now
            return known.root
        }
        if let task = starting[id] { return try await task.value }
        let task = Task { try await self.start(id) }
        starting[id] = task
        defer { starting[id] = nil }
        return try await task.value
    }

    package func isAlive(_ id: RuntimesVersion) async -> Bool { mounted[id] != nil }

    private func start(_ id: RuntimesVersion) async throws -> String {
        let info = try store.info(id)
        let (store, runDirectory, folder, target) = (store, runDirectory, folder(id), target(id))
        let (namesTarget, image, lookup) = (namesTarget(id), image(id), lookup)
        let (keeper, root) = try await blocking {
            try store.prepare()
            let metadata = "\(store.path(id))/meta.db"
            guard try checksum(metadata) == info.metadataChecksum else {
                throw SpriteError(
                    .internalError,
                    "cannot mount runtimes \(id): \(metadata) is damaged; build or pull the layer again")
            }
            for path in [runDirectory, folder, target] { try makeFolder(path) }
            for path in [namesTarget, target] { clinux_detach_mount(path) }
            let address = info.store ?? store.address
            var root = "\(target)/root"
            // What one of them leaves tells whoever takes the mount over which it is.
            try runTool("rm", ["-rf", "--", MetadataWriter.indexPath(folder), LayerNames.layoutPath(folder), image])
            rmdir(namesTarget)
            if lookup == .kernel, LayerNames.isSupported(image) {
                try makeFolder(namesTarget)
                try LayerNames.split(metadata, image: image, folder: folder, store: address)
                root = namesTarget
            } else {
                try MetadataWriter.prepare(metadata, to: "\(folder)/meta.db", store: address)
                try MetadataWriter.index("\(folder)/meta.db", in: folder)
            }
            FaultPoint.layerIndexed.reached()
            return (try FuseKeeper(path: "\(folder)/keeper.sock"), root)
        }
        do {
            let process = try launch(id)
            // A look into a mount that nobody serves does not end, and cannot be killed, until the descriptor is let go.
            let guardian = Task {
                while process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
                keeper.end()
            }
            defer { guardian.cancel() }
            let deadline = ContinuousClock.now + .seconds(Self.startSeconds)
            // JuiceFS hands the descriptor over once the kernel has spoken to it, and is ready when its files are there.
            let content = root == namesTarget ? try LayerNames.content(folder: folder, mount: target) : []
            let last = content.last ?? (root == namesTarget ? target : root)
            while try await blocking({ keeper.descriptor == nil || access(last, F_OK) != 0 }) {
                guard process.isRunning, ContinuousClock.now < deadline else {
                    process.kill()
                    throw SpriteError(
                        .internalError, "cannot mount runtimes \(id): JuiceFS did not start: \(lastWords(id))")
                }
                try await Task.sleep(for: .milliseconds(20))
            }
            FaultPoint.layerServed.reached()
            if root == namesTarget {
                do {
                    try await blocking { try LayerNames.mount(image, at: root, content: content) }
                } catch {
                    logger.warning(
                        "the kernel does not mount names, JuiceFS has them",
                        metadata: ["runtimes": "\(id)", "error": "\(error)"])
                    self.lookup = .juicefs
                    process.kill()
                    throw error
                }
            }
            mounted[id] = Mounted(root: root, keeper: keeper, process: process)
            await prefetch(id)
            watch(id, process)
            FaultPoint.layerMounted.reached()
            logger.notice("runtimes mounted", metadata: ["runtimes": "\(id)", "process": "\(process.processID)"])
            return root
        } catch {
            keeper.end()
            for path in [namesTarget, target] { clinux_detach_mount(path) }
            guard lookup == .kernel, self.lookup != lookup else { throw error }
            return try await start(id)
        }
    }

    /// Starts JuiceFS in a session of its own, so that nothing that ends the daemon ends it.
    private func launch(_ id: RuntimesVersion) throws -> ProcessMark {
        let folder = folder(id)
        let null = try Descriptor.open("/dev/null", O_RDONLY)
        let log = try Descriptor.open("\(folder)/log", O_WRONLY | O_CREAT | O_APPEND)
        // Where it says that it has none, the kernel asks once, not at each lookup.
        let attributes = try LayerIndex("\(folder)/meta.db").hasAttributes() ? ["--enable-xattr"] : []
        // For one file no index is needed.
        let index = MetadataWriter.indexPath(folder)
        let address = access(index, F_OK) == 0 ? "badger://\(index)" : "sqlite3://\(folder)/meta.db"
        var request = SpawnRequest(
            paths: [try JuiceFS.program()],
            arguments: ["juicefs", "mount"] + attributes + [
                "--read-only", "--no-usage-report", "--no-syslog", "--no-bgjob",
                "--hide-internal", "--no-color", "--metrics", "127.0.0.1:0", "--backup-meta", "0",
                "--cache-dir", store.cache, "--cache-size", "\(cacheMiB)", "--free-space-ratio", "0.05",
                // Objects that are fetched at once must fit, or they are fetched again.
                "--buffer-size", "300", "--max-fuse-io", "1M", "--get-timeout", "5", "--io-retries", "2",
                // Programs are read in leaps. With the default six times as much is read, and summed up, as is asked for;
                // what is needed next the profile says better.
                "--max-readahead", "1",
                // Nothing in a layer ever changes.
                "--attr-cache", "86400", "--entry-cache", "86400", "--dir-entry-cache", "86400",
                "--negative-entry-cache", "86400", "--open-cache", "86400", "--readdir-cache",
                address, target(id),
            ],
            // Most of its memory is a fixed cache: collecting garbage less often costs little of it, and saves a quarter
            // of the processor time of a first use.
            environment: JuiceFS.environment() + [keeperSetting(id), "GOGC=400"],
            directory: "/", descriptors: [null.number, log.number, log.number])
        request.newSession = true
        let child = try withExtendedLifetime((null, log)) { try spawn(request) }
        FaultPoint.layerLaunched.reached()
        let process = ProcessMark(child.processID, pidfd: child.pidfd, isChild: true)
        try writeSmallFile(
            "\(folder)/process", process.text, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        FaultPoint.layerRecorded.reached()
        return process
    }

    /// Where JuiceFS hands the mount's descriptor over.
    private func keeperSetting(_ id: RuntimesVersion) -> String {
        "JFS_SUPER_COMM=\(folder(id))/keeper.sock"
    }

    /// Fetches ahead what the layer's profile says, if it has one; without it everything works as well, later.
    private func prefetch(_ id: RuntimesVersion) async {
        let (profile, metadata) = ("\(store.path(id))/profile", "\(store.path(id))/meta.db")
        let (mount, layout) = (target(id), LayerNames.layoutPath(folder(id)))
        guard access(profile, R_OK) == 0 else { return }
        do {
            let process = try await blocking {
                try PrefetchProcess(profile: profile, metadata: metadata, mount: mount, layout: layout)
            }
            mounted[id]?.prefetcher = process
        } catch {
            logger.warning("nothing is fetched ahead", metadata: ["runtimes": "\(id)", "error": "\(error)"])
        }
    }

    /// Starts another JuiceFS when this one ends; nobody waits for it but this actor.
    private func watch(_ id: RuntimesVersion, _ process: ProcessMark) {
        Task {
            _ = try? await blocking { process.waitForEnd() }
            await self.ended(id, process)
        }
    }

    private func ended(_ id: RuntimesVersion, _ process: ProcessMark) async {
        guard let entry = mounted[id], entry.process === process else { return }
        logger.error(
            "JuiceFS ended and is started again",
            metadata: ["runtimes": "\(id)", "last_words": "\(lastWords(id))"])
        // Its second process may still be there, holding requests it will not answer.
        process.kill()
        var pause = 50
        while mounted[id] === entry {
            do {
                let next = try launch(id)
                let replacement = Mounted(root: entry.root, keeper: entry.keeper, process: next)
                (replacement.lastUse, replacement.patience) = (entry.lastUse, entry.patience)
                (replacement.heard, replacement.faults) = (entry.heard, entry.faults)
                mounted[id] = replacement
                await prefetch(id)
                // What the dead one had taken and not answered is handed out again.
                try? await Task.sleep(for: .milliseconds(300))
                if let descriptor = entry.keeper.descriptor { clinux_fuse_resend(descriptor.number) }
                watch(id, next)
                return
            } catch {
                logger.error("JuiceFS does not start", metadata: ["runtimes": "\(id)", "error": "\(error)"])
                try? await Task.sleep(for: .milliseconds(pause))
                pause = min(pause * 2, 10_000)
            }
        }
    }

    // MARK: Taking over

    /// Takes over what the last daemon left: mounts that are served go on, the rest is cleared away.
    package func adopt() async {
        for name in names(runDirectory) {
            guard let id = try? RuntimesVersion(name) else { continue }
            do {
                for path in [namesTarget(id), target(id)] { clinux_detach_mount(path) }
                guard let text = try? readSmallFile("\(folder(id))/process"), let process = ProcessMark(text: text)
                else {
                    ProcessMark.killUnrecorded(keeperSetting(id))
                    throw SystemError(ESRCH, "find JuiceFS")
                }
                let keeper = try FuseKeeper(path: "\(folder(id))/keeper.sock")
                var root = "\(target(id))/root"
                do {
                    try keeper.adopt(from: process.processID)
                    guard let descriptor = keeper.descriptor else { throw SystemError(EBADF, "take over the mount") }
                    // This daemon has a mount namespace of its own; the superblock is the one that sprites see.
                    try checked(
                        clinux_fuse_mount(descriptor.number, "JuiceFS:\(id)", target(id)), "mount \(target(id))")
                    // That of the names is another one, of the same files.
                    if access(namesTarget(id), F_OK) == 0 {
                        root = namesTarget(id)
                        let image = image(id)
                        let content = try LayerNames.content(folder: folder(id), mount: target(id))
                        try await blocking { [root] in try LayerNames.mount(image, at: root, content: content) }
                    }
                } catch {
                    keeper.end()
                    process.kill()
                    throw error
                }
                mounted[id] = Mounted(root: root, keeper: keeper, process: process)
                await prefetch(id)
                watch(id, process)
            } catch {
                logger.warning("runtimes not taken over", metadata: ["runtimes": "\(id)", "error": "\(error)"])
                for path in [namesTarget(id), target(id)] { clinux_detach_mount(path) }
                removeFolder(id)
            }
        }
        for name in names(store.mounted) where !mounted.keys.contains(where: { name == "\($0).erofs" }) {
            let path = "\(store.mounted)/\(name)"
            if unlink(path) < 0 { rmdir(path) }
        }
    }

    // MARK: Ending

    /// Ends what no sprite needs and nobody asked for lately; cuts logs that grew.
    ///
    /// - Parameter sprites: Those that run.
    package func sweep(sprites: Set<SpriteID>) {
        var inUse: Set<RuntimesVersion> = []
        for name in names("\(runDirectory)/sprites") {
            guard let sprite = SpriteID(rawValue: name) else { continue }
            if sprites.contains(sprite) {
                if let version = mounted(by: sprite) { inUse.insert(version) }
            } else if !isYoung("\(runDirectory)/sprites/\(name)") {
                release(sprite)
            }
        }
        for (id, entry) in mounted {
            cutLog(id)
            if inUse.contains(id) { entry.lastUse = .now }
            guard ContinuousClock.now - entry.lastUse > .seconds(60) else { continue }
            logger.notice("runtimes unmounted, unused", metadata: ["runtimes": "\(id)"])
            end(id)
        }
    }

    /// What could not be read since the last call, and the sprites it may have happened to; each fault once in a while.
    package func newFaults() -> [(fault: LayerFault, sprites: [SpriteID])] {
        var result: [(fault: LayerFault, sprites: [SpriteID])] = []
        for (id, entry) in mounted {
            let faults = hear(id, entry)
            openAnew(id, entry)
            for fault in faults {
                if let last = entry.faults[fault], ContinuousClock.now - last < Self.faultPause { continue }
                if entry.faults.count > Self.faultsMax { entry.faults.removeAll() }
                entry.faults[fault] = .now
                let sprites = names("\(runDirectory)/sprites").compactMap { SpriteID(rawValue: $0) }
                result.append((fault, sprites.filter { mounted(by: $0) == id }))
            }
        }
        return result
    }

    /// JuiceFS reads no more of an open file that it could not read of once, and the kernel has the content of a layer open
    /// for good; another JuiceFS knows nothing of that. Requests wait for it.
    private func openAnew(_ id: RuntimesVersion, _ entry: Mounted) {
        guard let fault = entry.firstFault, entry.root == namesTarget(id) else { return }
        if fault - entry.started > Self.patienceMax * 2 { entry.patience = Self.patienceMin }
        guard ContinuousClock.now - fault > entry.patience else { return }
        entry.patience = min(entry.patience * 2, Self.patienceMax)
        entry.firstFault = nil
        logger.notice("what could not be read is tried again", metadata: ["runtimes": "\(id)"])
        entry.process.kill()
    }

    private static let faultPause: Duration = .seconds(300)
    private static let faultsMax = 1000

    private func hear(_ id: RuntimesVersion, _ entry: Mounted) -> [LayerFault] {
        var facts = stat()
        let path = "\(folder(id))/log"
        guard stat(path, &facts) == 0, facts.st_size != entry.heard else { return [] }
        // It was cut.
        if facts.st_size < entry.heard { entry.heard = 0 }
        defer { entry.heard = facts.st_size }
        guard let file = try? Descriptor.open(path, O_RDONLY), let info = try? store.info(id) else { return [] }
        var bytes = [UInt8](repeating: 0, count: Int(min(facts.st_size - entry.heard, 1 << 20)))
        let count = pread(file.number, &bytes, bytes.count, facts.st_size - off_t(bytes.count))
        guard count > 0 else { return [] }
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        // It warns of each attempt; this is the end of all.
        if entry.firstFault == nil, text.contains("read file ") { entry.firstFault = .now }
        return LayerFault.all(in: text, layer: id, store: info.store ?? store.address)
    }

    /// A sprite that is just being started does not run yet.
    private func isYoung(_ path: String) -> Bool {
        var facts = stat()
        return stat(path, &facts) == 0 && time(nil) - facts.st_mtim.tv_sec < 60
    }

    /// Ends every mount; no sprite runs any more.
    package func endAll() {
        for id in mounted.keys { end(id) }
        for name in names("\(runDirectory)/sprites") { unlink("\(runDirectory)/sprites/\(name)") }
        rmdir("\(runDirectory)/sprites")
        rmdir(runDirectory)
    }

    private func end(_ id: RuntimesVersion) {
        guard let entry = mounted.removeValue(forKey: id) else { return }
        for path in [namesTarget(id), target(id)] { clinux_detach_mount(path) }
        entry.process.kill()
        entry.keeper.end()
        removeFolder(id)
    }

    private func removeFolder(_ id: RuntimesVersion) {
        let index = MetadataWriter.indexPath(folder(id))
        for name in names(index) { unlink("\(index)/\(name)") }
        rmdir(index)
        for name in names(folder(id)) where !["mount", "names"].contains(name) {
            unlink("\(folder(id))/\(name)")
        }
        unlink(image(id))
        rmdir(namesTarget(id))
        rmdir(target(id))
        rmdir(folder(id))
    }

    private func cutLog(_ id: RuntimesVersion) {
        var facts = stat()
        let path = "\(folder(id))/log"
        // Appending goes on at the new end.
        if stat(path, &facts) == 0, facts.st_size > Self.logBytesMax { truncate(path, 0) }
    }

    private func lastWords(_ id: RuntimesVersion) -> String {
        let text = (try? readSmallFile("\(folder(id))/log", bytesMax: Int(Self.logBytesMax))) ?? ""
        let lines = text.split(separator: "\n")
        let worst = lines.last { $0.contains("<FATAL>") } ?? lines.last { $0.contains("<ERROR>") } ?? lines.last
        return worst.map { String($0.suffix(400)) } ?? "it said nothing"
    }
}

/// Ends every JuiceFS that a daemon with this run directory left, with its mounts; for `sprited cleanup`.
package func endLeftRuntimes(runDirectory: String) {
    let folder = "\(runDirectory)/runtimes"
    for name in names(folder) {
        guard let text = try? readSmallFile("\(folder)/\(name)/process") else { continue }
        ProcessMark(text: text)?.kill()
    }
}
