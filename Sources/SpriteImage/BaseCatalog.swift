// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem

/// The bases of a pool: made from packages or images, listed, removed.
package struct BaseCatalog: Sendable {
    private let store: any BaseStoreDriver
    private let logger: Logger

    package init(store: any BaseStoreDriver, logger: Logger) {
        self.store = store
        self.logger = logger
    }

    /// Builds a base with mmdebstrap. Takes about a minute.
    ///
    /// - Throws: `.unsupported` without mmdebstrap, `.internalError` with mmdebstrap's own words.
    package func build(_ options: BuildOptions, progress: @escaping BaseProgressHandler) async throws -> BaseInfo {
        let host = try await blocking { HostNetwork.ofThisHost() }
        let builder = try DebianBuilder(options, host)
        let name = try options.name ?? BaseName("\(builder.distro)-\(builder.suite)")
        logger.info("base build begins", metadata: ["base.name": "\(name)", "base.suite": "\(builder.suite)"])
        let source = "mmdebstrap \(builder.suite)"
        let plan = Plan(name: name, source: source, initSystem: options.initSystem)
        return try await make(plan, progress) { workspace in
            try builder.build(workspace, host, progress)
            let ofHost = builder.distro == host.release.distro && builder.suite == host.release.suite
            return options.mirror == nil && ofHost ? host : host.withoutSources
        }
    }

    /// Imports an image from a file or folder.
    ///
    /// - Parameter kind: Nil: found out from the content.
    /// - Throws: `.invalidRequest` for an image that is damaged, hostile or for another architecture.
    package func importImage(
        _ path: String, as name: BaseName, kind: ImageKind? = nil, initSystem: InitSystem = .sprite,
        progress: @escaping BaseProgressHandler
    ) async throws -> BaseInfo {
        let plan = Plan(name: name, source: fileName(path), initSystem: initSystem)
        return try await make(plan, progress) { workspace in
            try ImageImporter(path: path, kind: kind, progress: progress).run(workspace)
            return HostNetwork.ofThisHost()
        }
    }

    /// In name order.
    package func list() async throws -> [BaseInfo] {
        try await store.baseDescriptions().map { name, description in
            let known = try? JSONDecoder().decode(BaseInfo.self, from: Data(description))
            var info = known ?? BaseInfo(name: name.rawValue)
            info.name = name.rawValue
            return info
        }
    }

    /// What runs as PID 1 in sprites of this base; `sprite` if its description does not say.
    package func initSystem(_ name: BaseName) async throws -> InitSystem {
        guard let description = try await store.baseDescription(name),
            let info = try? JSONDecoder().decode(BaseInfo.self, from: Data(description))
        else { return .sprite }
        return info.initSystem ?? .sprite
    }

    /// Removes a version, or every version of a bare name.
    ///
    /// - Throws: `.conflict` if one of them is of `inUse`, `.notFound`.
    package func remove(_ name: BaseName, inUse: Set<BaseName>) async throws {
        let meant = try await store.baseDescriptions().map(\.name).filter {
            $0.family == name.family && (!name.isVersion || $0.version == name.version)
        }
        for version in meant where inUse.contains(version) {
            throw SpriteError(
                .conflict,
                "cannot remove base \(version): sprites or checkpoints of them use it; move them to another version "
                    + "(`sprite upgrade NAME --base`) or destroy them first")
        }
        guard !meant.isEmpty else { try await store.removeBase(name); return }
        for version in meant { try await store.removeBase(version) }
    }

    /// Removes the versions before the newest one that nothing uses.
    package func removeUnused(_ family: BaseName, inUse: Set<BaseName>) async throws -> [BaseName] {
        let versions = try await store.baseDescriptions().map(\.name).filter { $0.family == family.family }
        let old = versions.filter { $0 != versions.resolve(family.family) && !inUse.contains($0) }
        for version in old { try await store.removeBase(version) }
        return old
    }

    /// What a new base is made as.
    private struct Plan: Sendable {
        var name: BaseName
        var source: String
        var initSystem: InitSystem
    }

    private func make(
        _ plan: Plan, _ progress: @escaping BaseProgressHandler,
        _ fill: @escaping @Sendable (BaseWorkspace) throws -> HostNetwork
    ) async throws -> BaseInfo {
        let result = Result()
        guard !plan.name.isVersion else {
            throw SpriteError(
                .invalidRequest, "cannot make base \(plan.name): versions are numbered by themselves; leave out '@'")
        }
        // A further version of what is there; the older ones stay with the sprites that have them.
        let newest = try await store.baseDescriptions().map(\.name).resolve(plan.name)
        let name = BaseName(family: plan.name, version: (newest?.version ?? 0) + 1)
        try await store.importBase(name, replacing: false) { workspace in
            let network = try fill(workspace)
            progress(BaseProgress("making it a base", fraction: 0.97))
            let tree = try RootTree(workspace.path)
            try BaseFinisher(tree: tree, network: network, initSystem: plan.initSystem, progress: progress).run()
            var info = try Self.describe(tree, name, plan.source)
            if plan.initSystem.isOfBase { info.initSystem = plan.initSystem }
            result.info = info
            return try Array(JSONEncoder().encode(info))
        }
        progress(BaseProgress("done", fraction: 1))
        guard let info = result.info else { throw SpriteError(.internalError, "cannot import base \(name): no result") }
        return info
    }

    /// Carries the description out; written on one thread before `importBase` returns, read after.
    private final class Result: @unchecked Sendable {
        var info: BaseInfo?
    }

    private static func describe(_ tree: RootTree, _ name: BaseName, _ source: String) throws -> BaseInfo {
        let release = Release(tree.read("/etc/os-release") ?? tree.read("/usr/lib/os-release") ?? "")
        // Apparent sizes: what btrfs has not written yet takes no blocks.
        let usage = try runTool("du", ["-sxb", "."], directory: tree.path).standardOutput
        var packages: Int?
        for (file, prefix) in [("/var/lib/dpkg/status", "Package: "), ("/lib/apk/db/installed", "P:")] {
            guard let text = tree.read(file, bytesMax: 64 << 20) else { continue }
            packages = text.split(separator: "\n").count { $0.hasPrefix(prefix) }
        }
        return BaseInfo(
            name: name.rawValue, distro: release.distro, version: release.version,
            sizeBytes: usage.words.first.flatMap { UInt64($0) }, createdAt: Int64(time(nil)), packages: packages,
            source: source)
    }
}

extension HostNetwork {
    /// For a base that reads its packages from elsewhere.
    var withoutSources: HostNetwork {
        var result = self
        result.sources = []
        return result
    }
}
