// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// Unpacks an image of any kind into a workspace.
struct ImageImporter: Sendable {
    let path: String
    let kind: ImageKind?
    let progress: BaseProgressHandler

    func run(_ workspace: BaseWorkspace) throws {
        var facts = stat()
        guard stat(path, &facts) == 0 else { throw refuseImage("\(path): \(errnoText(errno))") }
        let tree = try RootTree(workspace.path)
        let unpacker = try Unpacker(tree, lock: workspace.lock)
        do {
            if facts.st_mode & S_IFMT == S_IFDIR {
                try unpackImage(RootTree(path), kind, unpacker)
            } else {
                try unpackFile(unpacker, tree)
            }
        } catch let failure as ToolFailure {
            throw explain(failure)
        }
        try unpacker.finish()
        guard tree.exists("/bin/sh") || tree.exists("/usr/bin/sh") else {
            throw refuseImage("it has no /bin/sh, so it is not the root filesystem of a system to work in")
        }
    }

    private func unpackFile(_ unpacker: Unpacker, _ tree: RootTree) throws {
        let file = try Descriptor.open(path, O_RDONLY)
        let kind = try kind ?? detectedKind(file)
        guard kind != .tar else {
            progress(BaseProgress("unpacking \(fileName(path))", fraction: 0.1))
            return try unpacker.unpack(file, onTop: false)
        }
        // In the workspace, so that it goes with it if this is interrupted.
        progress(BaseProgress("opening \(fileName(path))", fraction: 0.05))
        let folder = "/.image-\(SpriteID.random())"
        try tree.makeDirectory(folder, mode: 0o700)
        try unpacker.unpack(file, onTop: false, into: folder)
        try unpackImage(RootTree(tree.path + folder), kind, unpacker)
        try tree.removeTree(folder)
    }

    private func unpackImage(_ folder: RootTree, _ wanted: ImageKind?, _ unpacker: Unpacker) throws {
        let reader = ImageReader(folder: folder)
        // `docker save` writes an OCI image layout too since version 25, with all that the old form says.
        guard let found = reader.kind else {
            throw refuseImage("it holds neither index.json (OCI image layout) nor manifest.json (docker save)")
        }
        let kind: ImageKind = wanted == .docker && folder.exists("manifest.json") ? .docker : found
        let layers = try reader.layers(kind)
        for (index, layer) in layers.enumerated() {
            let share = Double(index) / Double(layers.count)
            progress(BaseProgress("unpacking layer \(index + 1) of \(layers.count)", fraction: 0.1 + 0.85 * share))
            try unpacker.unpack(layer, onTop: index > 0)
        }
    }

    /// The names at the top of a tar tell what it is.
    private func detectedKind(_ file: Descriptor) throws -> ImageKind {
        let list = try listArchive(file, bytesMax: Unpacker.listBytesMax)
        let names = Set(
            list.utf8.split(separator: 10).lazy.filter { $0.count <= 15 }.map {
                String($0.starts(with: "./".utf8) ? $0.dropFirst(2) : $0) ?? ""
            })
        if names.contains("index.json") { return .oci }
        return names.contains("manifest.json") ? .docker : .tar
    }

    private func explain(_ failure: ToolFailure) -> SpriteError {
        let text = failure.standardError
        if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
            return SpriteError(.noSpace, "cannot import image: the pool has no space left", cause: failure)
        }
        let line = text.split(separator: "\n").first { $0.contains("tar: ") } ?? "tar failed"
        return refuseImage("it is damaged, or would write outside of itself: \(line.prefix(300))", cause: failure)
    }
}
