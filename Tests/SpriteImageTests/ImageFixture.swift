// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import Logging
import SpriteDomain
import SpriteImage
import SpriteSystem
import Testing

/// A store that keeps bases in a plain folder.
struct FolderStore: BaseStoreDriver {
    let folder: String

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    func importBase(
        _ name: BaseName, replacing: Bool, fill: @escaping @Sendable (BaseWorkspace) throws -> [UInt8]
    ) async throws {
        let target = path(name.rawValue)
        try await blocking {
            try system("mkdir") { mkdir(target, 0o755) }
            do {
                let lock = try Descriptor.open(target, O_RDONLY | O_DIRECTORY)
                let text = String(decoding: try fill(BaseWorkspace(path: target, lock: lock.number)), as: UTF8.self)
                try writeText("\(target).json", text)
            } catch {
                try runTool("rm", ["-rf", target])
                throw error
            }
        }
    }

    func baseDescription(_ name: BaseName) async throws -> [UInt8]? {
        readText("\(folder)/\(name).json").map { Array($0.utf8) }
    }

    func baseDescriptions() async throws -> [(name: BaseName, description: [UInt8])] {
        try runTool("ls", [folder]).standardOutput.split(separator: "\n").filter { $0.hasSuffix(".json") }.map { name in
            (try BaseName(String(name.dropLast(5))), Array((readText("\(folder)/\(name)") ?? "").utf8))
        }
    }

    func removeBase(_ name: BaseName) async throws {
        try runTool("rm", ["-rf", path(name.rawValue), path(name.rawValue) + ".json"])
    }
}

func writeText(_ path: String, _ text: String) throws {
    try writeSmallFile(path, text, flags: O_WRONLY | O_CREAT | O_TRUNC)
}

func readText(_ path: String) -> String? { try? readSmallFile(path) }

/// Files and folders of one test, gone afterwards.
struct ImageFixture {
    let folder: String
    let store: FolderStore
    let catalog: BaseCatalog

    static func run(_ body: (ImageFixture) async throws -> Void) async throws {
        let folder = "/tmp/sprite-image-\(SpriteID.random())"
        for path in [folder, "\(folder)/bases", "\(folder)/work"] { try system("mkdir") { mkdir(path, 0o755) } }
        let store = FolderStore(folder: "\(folder)/bases")
        let fixture = ImageFixture(
            folder: folder, store: store, catalog: BaseCatalog(store: store, logger: Logger(label: "test")))
        do {
            try await body(fixture)
        } catch {
            _ = try? runTool("rm", ["-rf", folder])
            throw error
        }
        _ = try? runTool("rm", ["-rf", folder])
    }

    /// A root filesystem with a shell of this host, in a folder of that name.
    func root(_ name: String) throws -> String {
        let root = "\(folder)/work/\(name)"
        let script = #"""
            set -e
            mkdir -p "$1"/bin "$1"/etc "$1"/usr/bin "$1"/var "$1"/lib/empty
            cp -L /bin/sh "$1/bin/sh"
            for library in $(ldd /bin/sh | grep -o '/[^ ]*'); do
                mkdir -p "$1$(dirname "$library")" && cp -L "$library" "$1$library"
            done
            ln -s /run "$1/var/run"
            printf 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n' > "$1/etc/passwd"
            printf 'ID=sm\033all\nVERSION_ID="7\007"\n' > "$1/etc/os-release"
            echo secret > "$1/etc/hostname"
            """#
        try runTool("sh", ["-c", script, "sh", root])
        return root
    }

    @discardableResult
    func shell(_ script: String, _ arguments: [String] = []) throws -> String {
        try runTool("sh", ["-ec", script, "sh"] + arguments, directory: "\(folder)/work").standardOutput
    }

    /// An OCI image layout in `layout/`, from tars in `work/`.
    func layout(_ name: String, layers: [String], architecture: String? = nil) throws -> String {
        let layout = "\(folder)/work/\(name)"
        try shell(#"mkdir -p "$1/blobs/sha256"; echo '{"imageLayoutVersion":"1.0.0"}' > "$1/oci-layout""#, [layout])
        func add(_ file: String) throws -> String {
            let digest = try shell(#"sha256sum "$1" | cut -d' ' -f1"#, [file]).filter { !$0.isWhitespace }
            try shell(#"cp "$1" "$2/blobs/sha256/$3""#, [file, layout, digest])
            return digest
        }
        let items = try layers.map { try #"{"mediaType":"x","size":1,"digest":"sha256:\#(add($0))"}"# }
        let manifest = "\(folder)/work/\(name).manifest"
        try writeText(manifest, #"{"schemaVersion":2,"layers":[\#(items.joined(separator: ","))]}"#)
        let platform = architecture.map { #","platform":{"os":"linux","architecture":"\#($0)"}"# } ?? ""
        // As builders write it: an attestation comes along, and the index points to an index.
        let inner = "\(folder)/work/\(name).index"
        try writeText(
            inner,
            #"{"manifests":[{"digest":"sha256:0","platform":{"os":"unknown","architecture":"unknown"}},"#
                + #"{"digest":"sha256:\#(add(manifest))"\#(platform)}]}"#)
        try writeText("\(layout)/index.json", #"{"manifests":[{"digest":"sha256:\#(add(inner))"}]}"#)
        return layout
    }

    @discardableResult
    func importImage(_ path: String, _ name: String, kind: ImageKind? = nil) async throws -> BaseInfo {
        try await catalog.importImage(path, as: BaseName(name), kind: kind) { _ in }
    }

    func expectRefused(
        _ path: String, _ words: String, kind: ImageKind? = nil, location: SourceLocation = #_sourceLocation
    ) async {
        let error = await #expect(throws: SpriteError.self, sourceLocation: location) {
            try await importImage(path, "refused", kind: kind)
        }
        #expect(error?.code == .invalidRequest, sourceLocation: location)
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")", sourceLocation: location)
        #expect(access(store.path("refused"), F_OK) != 0, sourceLocation: location)
    }
}
