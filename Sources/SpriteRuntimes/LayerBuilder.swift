// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
package import SpriteDomain
import SpriteSystem

/// How far a longer operation is.
package struct RuntimesProgress: Sendable {
    package var step: String
    package var doneBytes: UInt64 = 0
    package var totalBytes: UInt64 = 0
    package var doneFiles = 0
    package var totalFiles = 0

    package init(step: String, totalBytes: UInt64 = 0, totalFiles: Int = 0) {
        self.step = step
        self.totalBytes = totalBytes
        self.totalFiles = totalFiles
    }
}

/// Makes a version of a layer of what a throw-away sprite has on its disk.
package struct LayerBuilder: Sendable {
    private let store: LayerStore

    package init(_ store: LayerStore) { self.store = store }

    /// - Parameters:
    ///   - lower: The root of the base.
    ///   - upper: The upper folder of a checkpoint of the sprite; nothing changes it any more.
    ///   - baseMade: When the base was built or imported on this host, in seconds since 1970.
    ///   - archive: The recipe's files as they went in.
    package func pack(
        _ recipe: Recipe, base: BaseName, lower: String, upper: String, begun: Int64, baseMade: Int64,
        archive: [UInt8], progress: (RuntimesProgress) -> Void
    ) throws -> LayerInfo {
        try store.withLock {
            let scratch = try store.scratch()
            progress(RuntimesProgress(step: "looking at the files"))
            let epoch = LayerTree.epoch(ofBase: lower)
            let tree = try LayerTree(upper, over: lower, begun: begun, baseMade: baseMade, epoch: epoch)
            let total = RuntimesProgress(
                step: "packing", totalBytes: tree.sizeBytes, totalFiles: tree.files.count)
            let writer = ObjectWriter(
                tree: tree, source: upper, store: store.address.path, scratch: scratch, profile: recipe.profile)
            let (slices, objects) = try writer.run { bytes, files in
                var now = total
                now.doneBytes = bytes
                now.doneFiles = files
                progress(now)
            }
            progress(RuntimesProgress(step: "writing the metadata"))
            let dump = "\(scratch)/dump.json"
            try MetadataWriter(tree: tree, slices: slices, name: recipe.name).writeDump(dump)
            let id = try RuntimesVersion(name: recipe.name, version: String(try checksum(dump).prefix(12)))
            let folder = "\(scratch)/layer"
            try makeFolder(folder)
            let metadata = "\(folder)/meta.db"
            try MetadataWriter.load(dump, to: metadata)
            try replaceFile("\(folder)/objects", .init((objects.joined(separator: "\n") + "\n").utf8))
            var facts = stat()
            var stored: UInt64 = 0
            for key in objects {
                try system("inspect object \(key)") { lstat("\(store.address.path)/\(key)", &facts) }
                stored += UInt64(facts.st_size)
            }
            try system("inspect metadata") { lstat(metadata, &facts) }
            let inputs = "\(scratch)/inputs"
            try replaceFile(inputs, Data(recipe.inputs(base: base, epoch: epoch, archive: archive)))
            let info = LayerInfo(
                name: id.name, version: id.version, base: base.rawValue, createdAt: Int64(time(nil)),
                entries: tree.entries, sizeBytes: tree.sizeBytes, storedBytes: stored, objects: objects.count,
                metadataBytes: UInt64(facts.st_size), metadataChecksum: try checksum(metadata),
                recipeChecksum: try checksum(inputs))
            if !recipe.profile.isEmpty { try replaceFile("\(folder)/profile", Data(recipe.profile.text.utf8)) }
            try replaceFile("\(folder)/layer.json", try info.json)
            // What the objects hold must be on the disk before the layer is there.
            sync()
            try store.install(folder, id)
            try runTool("rm", ["-rf", "--", scratch])
            return info
        }
    }
}
