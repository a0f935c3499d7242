// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import SpriteDomain
import SpriteSystem

/// Finds the layers of an image folder: an OCI image layout, or what `docker save` writes.
///
/// The folder may come out of a hostile archive; its files are opened as after chroot(2) into it.
struct ImageReader {
    let folder: RootTree

    /// JSON files of images are small; anything larger is hostile.
    private static let jsonBytesMax = 4 << 20
    /// Docker's own limit is 127.
    private static let layersMax = 512

    var kind: ImageKind? {
        if folder.exists("index.json") { return .oci }
        return folder.exists("manifest.json") ? .docker : nil
    }

    /// The layers from the lowest to the highest.
    func layers(_ kind: ImageKind) throws -> [Descriptor] {
        let paths = try kind == .docker ? dockerLayers() : layoutLayers()
        guard !paths.isEmpty else { throw refuseImage("it has no layers") }
        guard paths.count <= Self.layersMax else {
            throw refuseImage("it has \(paths.count) layers, the limit is \(Self.layersMax)")
        }
        return try paths.map { path in
            guard let layer = regularFile(path) else { throw refuseImage("layer \(path) is missing, or no file") }
            return layer
        }
    }

    /// A device or a pipe may have no end.
    private func regularFile(_ path: String) -> Descriptor? {
        folder.regularFile(path)
    }

    // MARK: OCI image layout

    private struct Index: Decodable { var manifests: [Pointer]? }
    private struct Manifest: Decodable { var layers: [Pointer]? }
    private struct Pointer: Decodable {
        var mediaType: String?
        var digest: String
        var platform: Platform?
    }
    private struct Platform: Decodable {
        var architecture: String?
        var os: String?
    }

    private func layoutLayers() throws -> [String] {
        var pointers = try decode(Index.self, "index.json").manifests ?? []
        // An index may point to another one; more than a few levels is a loop.
        for _ in 0..<4 {
            let pointer = try chosen(pointers)
            let path = try blob(pointer.digest)
            if let inner = try decode(Index.self, path).manifests {
                pointers = inner
                continue
            }
            let layers = try decode(Manifest.self, path).layers ?? []
            for layer in layers where layer.mediaType?.contains("encrypted") == true {
                throw refuseImage("its layers are encrypted")
            }
            return try layers.map { try blob($0.digest) }
        }
        throw refuseImage("its index points to an index, again and again")
    }

    private func chosen(_ pointers: [Pointer]) throws -> Pointer {
        // Attestations of builders come as manifests of platform unknown/unknown.
        let images = pointers.filter { $0.platform?.os != "unknown" }
        let fitting = images.first { $0.platform?.architecture == hostArchitecture() && $0.platform?.os == "linux" }
        if let pointer = fitting ?? images.first(where: { $0.platform?.architecture == nil }) { return pointer }
        let offered = images.compactMap { $0.platform?.architecture }.joined(separator: ", ")
        throw refuseImage("it is for \(offered.isEmpty ? "no platform" : offered), this host is \(hostArchitecture())")
    }

    private func blob(_ digest: String) throws -> String {
        let parts = digest.split(separator: ":", omittingEmptySubsequences: false)
        let allowed =
            parts.count == 2
            && parts.allSatisfy { part in
                !part.isEmpty && part.utf8.count <= 128
                    && part.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) }
            }
        guard allowed else { throw refuseImage("'\(digest.prefix(80))' is not a digest") }
        let path = "blobs/\(parts[0])/\(parts[1])"
        if parts[0] == "sha256" { try verify(path, String(parts[1])) }
        return path
    }

    /// A layer that is damaged or was exchanged is refused before anything of it is used.
    private func verify(_ path: String, _ expected: String) throws {
        guard let file = regularFile(path) else { throw refuseImage("blob \(path) is missing, or no file") }
        let output = try runTool("sh", ["-c", "exec sha256sum <&3"], descriptors: [file.number]).standardOutput
        guard output.hasPrefix(expected) else { throw refuseImage("blob \(path) does not have the content it should") }
    }

    // MARK: docker save

    private struct Saved: Decodable {
        var Layers: [String]
        var RepoTags: [String]?
    }

    private func dockerLayers() throws -> [String] {
        let saved = try decode([Saved].self, "manifest.json")
        guard let image = saved.first else { throw refuseImage("manifest.json is empty") }
        guard saved.count == 1 else {
            let names = saved.flatMap { $0.RepoTags ?? [] }.joined(separator: ", ")
            throw refuseImage("it holds \(saved.count) images (\(names)); save one of them alone")
        }
        return image.Layers
    }

    private func decode<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        guard let text = folder.read(path, bytesMax: Self.jsonBytesMax) else {
            throw refuseImage("\(path) is missing")
        }
        do {
            return try JSONDecoder().decode(type, from: Data(text.utf8))
        } catch {
            throw refuseImage("\(path) is not what it should be", cause: error)
        }
    }
}

/// The architecture of this host in the words of OCI, such as `amd64`.
func hostArchitecture() -> String {
    #if arch(x86_64)
    "amd64"
    #elseif arch(arm64)
    "arm64"
    #elseif arch(riscv64)
    "riscv64"
    #else
    "unknown"
    #endif
}
