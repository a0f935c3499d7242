// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem

extension LayerStore {
    /// What was removed from a store.
    package struct Collection: Sendable, Hashable {
        package var versions: [RuntimesVersion] = []
        package var objects = 0
    }

    /// Removes old versions from a store that layers were published to, then the objects that none of the others needs.
    ///
    /// First the versions go, so that nobody finds one whose objects are going. Sprites of any host that have one of them
    /// can read only what their host has cached.
    ///
    /// - Parameter keep: How many versions stay of each name, the newest; at least 1. The one that was published last
    ///   stays in any case.
    package func collect(at store: StoreAddress, keep: Int) throws -> Collection {
        guard keep >= 1 else {
            throw SpriteError(.invalidRequest, "cannot keep \(keep) versions: keep 1 or more")
        }
        guard store != address else {
            throw SpriteError(.invalidRequest, "\(store) is the store of this data directory: leave out --at")
        }
        return try withLock {
            let scratch = try scratch()
            let published = try published(at: store, "\(scratch)/before")
            guard !published.isEmpty else { throw SpriteError(.notFound, "there are no layers at \(store)") }
            var result = Collection()
            var needed: Set<String> = []
            for (_, versions) in Dictionary(grouping: published, by: \.info.name) {
                let newest = versions.sorted {
                    ($0.info.createdAt, $0.info.version) > ($1.info.createdAt, $1.info.version)
                }
                for (place, version) in newest.enumerated() {
                    if place < keep || version.isLatest {
                        needed.formUnion(version.objects)
                    } else {
                        result.versions.append(try version.info.id)
                    }
                }
            }
            try makeFolder("\(scratch)/nothing")
            for id in result.versions {
                _ = try remove(allBut: "\(scratch)/nothing/", at: store, "/layers/\(id.name)/\(id.version)/")
            }
            // Only names are compared, so that empty files stand for the objects.
            try makeFolder("\(scratch)/keep")
            for key in needed.sorted() {
                try makeFolders(above: key, in: "\(scratch)/keep")
                _ = try Descriptor.open("\(scratch)/keep/\(key)", O_WRONLY | O_CREAT)
            }
            try makeFolder("\(scratch)/keep/chunks")
            result.objects = try remove(allBut: "\(scratch)/keep/chunks/", at: store, "/chunks/")
            let known = Set(try published.map { try $0.info.id })
            let later = try self.published(at: store, "\(scratch)/after").map { try $0.info.id }
            try runTool("rm", ["-rf", "--", scratch])
            if let new = later.first(where: { !known.contains($0) }) {
                throw SpriteError(
                    .conflict, "\(new) was published while objects were removed, and may miss some: publish it again")
            }
            result.versions.sort { "\($0)" < "\($1)" }
            return result
        }
    }

    private struct Published {
        var info: LayerInfo
        var isLatest: Bool
        var objects: [String]
    }

    private func published(at store: StoreAddress, _ folder: String) throws -> [Published] {
        try fetch(
            store, "/layers/", "\(folder)/", only: ["*/", "*/latest.json", "*/*/", "*/*/layer.json", "*/*/objects"])
        var result: [Published] = []
        for name in names(folder) {
            let latest = try? LayerInfo(file: "\(folder)/\(name)/latest.json")
            for version in names("\(folder)/\(name)") where version != "latest.json" {
                let place = "\(folder)/\(name)/\(version)"
                // Without its description it is no version yet, or no more.
                guard access("\(place)/layer.json", F_OK) == 0 else { continue }
                let info = try readInfo("\(place)/layer.json")
                guard info.name == name, info.version == version, access("\(place)/objects", R_OK) == 0 else {
                    throw SpriteError(
                        .internalError,
                        "cannot collect at \(store): what describes \(name)@\(version) is damaged, so that it cannot be "
                            + "told which objects it needs; publish it again or remove it")
                }
                let objects = try readSmallFile("\(place)/objects", bytesMax: 64 << 20).split(separator: "\n")
                guard objects.allSatisfy({ $0.hasPrefix("chunks/") && !$0.contains("..") }) else {
                    throw SpriteError(
                        .internalError, "cannot collect at \(store): the list of \(name)@\(version) is damaged")
                }
                result.append(
                    Published(info: info, isLatest: latest?.version == version, objects: objects.map(String.init)))
            }
        }
        return result
    }

    /// Removes what a store has under some name and a local folder does not; returns how many objects.
    private func remove(allBut folder: String, at store: StoreAddress, _ under: String) throws -> Int {
        let (url, options) = store.location(under)
        if store.isFolder, access(url, F_OK) != 0 { return 0 }
        let wanted = ["--delete-dst", "--existing", "--ignore-existing"]
        return try synchronize(folder, url, options + wanted, store, verb: "collect").deletedObjects
    }
}
