// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
package import SpriteDomain

/// What is known about one version of a layer; `layer.json` beside its metadata.
package struct LayerInfo: Codable, Sendable, Hashable {
    package var name: String
    package var version: String
    /// The base it was built on, and only goes on.
    package var base: String
    /// Seconds since 1970.
    package var createdAt: Int64
    /// Files, links and folders.
    package var entries: Int
    /// Bytes of all files.
    package var sizeBytes: UInt64
    /// Bytes of the objects, compressed.
    package var storedBytes: UInt64
    package var objects: Int
    package var metadataBytes: UInt64
    /// SHA-256 of the metadata file; compared before every mount.
    package var metadataChecksum: String
    /// SHA-256 of the recipe with its files and its base: two versions that share it should be one. Nil: built before
    /// this was kept.
    package var recipeChecksum: String?
    /// Where the objects are; nil: in the store of this data directory.
    package var store: StoreAddress?

    package var id: RuntimesVersion {
        get throws { try RuntimesVersion(name: name, version: version) }
    }

    private enum CodingKeys: String, CodingKey {
        case name, version, base, entries, objects, store
        case createdAt = "created_at"
        case sizeBytes = "size_bytes"
        case storedBytes = "stored_bytes"
        case metadataBytes = "metadata_bytes"
        case metadataChecksum = "metadata_sha256"
        case recipeChecksum = "recipe_sha256"
    }

    package init(
        name: String, version: String, base: String, createdAt: Int64, entries: Int, sizeBytes: UInt64,
        storedBytes: UInt64, objects: Int, metadataBytes: UInt64, metadataChecksum: String, recipeChecksum: String?
    ) {
        self.name = name
        self.version = version
        self.base = base
        self.createdAt = createdAt
        self.entries = entries
        self.sizeBytes = sizeBytes
        self.storedBytes = storedBytes
        self.objects = objects
        self.metadataBytes = metadataBytes
        self.metadataChecksum = metadataChecksum
        self.recipeChecksum = recipeChecksum
    }

    init(file path: String) throws {
        let data = try Data(contentsOf: URL(filePath: path))
        self = try JSONDecoder().decode(LayerInfo.self, from: data)
        // All of them become names of files.
        _ = try (id, BaseName(base))
    }

    var json: Data {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            return try encoder.encode(self)
        }
    }
}

/// A folder or a bucket that holds layers and their objects.
///
/// ```
/// <store>/chunks/…                        objects, named by their content
/// <store>/layers/NAME/VERSION/layer.json  what it is
/// <store>/layers/NAME/VERSION/meta.db     names, owners, modes, and where in which object
/// <store>/layers/NAME/VERSION/objects     the names of its objects
/// <store>/layers/NAME/latest.json         the version published last
/// ```
package struct StoreAddress: Codable, Sendable, Hashable, CustomStringConvertible {
    /// For an S3 server other than Amazon's: `http://host:port`.
    package var endpoint: String?
    /// Of S3; nil for a folder.
    package var bucket: String?
    /// The path of the folder, or what the names of the objects begin with.
    package var path: String

    /// Takes a folder or `s3://bucket/prefix`.
    ///
    /// - Throws: ``SpriteError`` with `.invalidRequest`.
    package init(_ text: String, endpoint: String?) throws {
        guard text.hasPrefix("s3://") else {
            guard text.hasPrefix("/"), !text.contains("://"), endpoint == nil else {
                throw SpriteError(
                    .invalidRequest,
                    "cannot use store '\(text)': write an absolute path, or s3://BUCKET/PREFIX with --endpoint for a "
                        + "server other than Amazon's")
            }
            var path = text[...]
            while path.count > 1, path.hasSuffix("/") { path = path.dropLast() }
            self.path = String(path)
            return
        }
        let parts = text.dropFirst(5).split(separator: "/").map(String.init)
        let isPlain = parts.joined().utf8.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
        }
        guard let bucket = parts.first, bucket.utf8.count >= 3, isPlain, !parts.contains("..") else {
            throw SpriteError(
                .invalidRequest,
                "cannot use store '\(text)': write s3://BUCKET/PREFIX with only a-z, 0-9, '-', '.' and '_' in both")
        }
        self.bucket = bucket
        let prefix = parts.dropFirst().joined(separator: "/")
        path = prefix.isEmpty ? "runtimes" : prefix
        if let endpoint {
            let scheme = endpoint.hasPrefix("http://") ? 7 : endpoint.hasPrefix("https://") ? 8 : 0
            let host = endpoint.dropFirst(scheme)
            guard scheme > 0, !host.isEmpty, !host.contains("@"), !host.contains("/"), !host.contains(" ") else {
                throw SpriteError(
                    .invalidRequest,
                    "cannot use endpoint '\(endpoint)': write http://HOST:PORT or https://HOST; credentials come from "
                        + "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }
        }
        self.endpoint = endpoint
    }

    package var isFolder: Bool { bucket == nil }

    package var description: String {
        guard let bucket else { return path }
        return "s3://\(bucket)/\(path)" + (endpoint.map { " at \($0)" } ?? "")
    }

    /// The settings that JuiceFS reads from the metadata: kind, address and common beginning of the names.
    var volume: (storage: String, bucket: String, name: String) {
        guard let bucket else {
            let parts = path.split(separator: "/").map(String.init)
            return ("file", "/" + parts.dropLast().map { $0 + "/" }.joined(), parts.last ?? "store")
        }
        return ("s3", "\(endpoint ?? "https://s3.amazonaws.com")/\(bucket)", path)
    }

    /// As `juicefs sync` takes it; `under` begins with a slash.
    func location(_ under: String = "/") -> (url: String, options: [String]) {
        guard let bucket else { return ("\(path)\(under)", []) }
        let host = (endpoint ?? "https://s3.amazonaws.com")
        let bare = host.hasPrefix("http://") ? host.dropFirst(7) : host.dropFirst(8)
        return ("s3://\(bare)/\(bucket)/\(path)\(under)", host.hasPrefix("http://") ? ["--no-https"] : [])
    }
}
