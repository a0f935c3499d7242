// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import FoundationEssentials
import Glibc
package import SpriteDomain
import SpriteSystem

/// The layers of one data directory: a store like any other, and which of its versions new sprites get.
package struct LayerStore: Sendable {
    /// `DATA/runtimes`.
    package let folder: String
    package let address: StoreAddress

    package init(dataDirectory: String) throws {
        folder = "\(dataDirectory)/runtimes"
        address = try StoreAddress("\(folder)/store", endpoint: nil)
    }

    var layers: String { "\(address.path)/layers" }
    var chunks: String { "\(address.path)/chunks" }
    /// What comes from elsewhere is kept here, decompressed.
    var cache: String { "\(folder)/cache" }
    /// What the kernel reads of mounted layers.
    var mounted: String { "\(folder)/mounted" }
    private var chosen: String { "\(folder)/use" }

    func path(_ id: RuntimesVersion) -> String { "\(layers)/\(id.name)/\(id.version)" }

    /// Only root: objects hold what will be programs of every sprite.
    func prepare() throws {
        for path in [folder, address.path, layers, chunks, cache, mounted, chosen] { try makeFolder(path) }
    }

    // MARK: Versions

    /// Every version that is here, by name, the newest first.
    package func list() throws -> [LayerInfo] {
        var result: [LayerInfo] = []
        for name in names(layers) {
            for version in names("\(layers)/\(name)") where (try? RuntimesVersion(name: name, version: version)) != nil
            {
                result.append(try info(RuntimesVersion(name: name, version: version)))
            }
        }
        return result.sorted { ($0.name, $1.createdAt, $0.version) < ($1.name, $0.createdAt, $1.version) }
    }

    package func info(_ id: RuntimesVersion) throws -> LayerInfo {
        let path = "\(path(id))/layer.json"
        guard access(path, F_OK) == 0 else {
            throw SpriteError(
                .notFound, "there is no runtimes layer \(id) here; `sprited runtimes list` shows those there are")
        }
        do {
            return try LayerInfo(file: path)
        } catch {
            throw SpriteError(
                .internalError, "cannot read runtimes layer \(id): \(path) is damaged; build or pull it again",
                cause: error)
        }
    }

    /// `NAME` means the version in use, or the newest.
    package func find(_ text: String) throws -> LayerInfo {
        if text.contains("@") { return try info(RuntimesVersion(text)) }
        let name = try RuntimesVersion.checkedName(text)
        if let used = try choice(of: name) { return try info(used) }
        return try newest(name)
    }

    /// The version that was built or pulled last.
    package func newest(_ text: String) throws -> LayerInfo {
        let name = try RuntimesVersion.checkedName(text)
        guard let newest = try list().first(where: { $0.name == name }) else {
            throw SpriteError(
                .notFound, "there is no runtimes layer '\(name)' here; `sprited runtimes list` shows those there are")
        }
        return newest
    }

    // MARK: Choices

    /// New sprites of its base get this version.
    package func use(_ id: RuntimesVersion) throws {
        try prepare()
        let info = try info(id)
        // One file a base; the version chosen for a name is the one that some base uses.
        try replaceFile("\(chosen)/\(info.base)", Data("\(id)\n".utf8))
    }

    /// New sprites get no layer unless they ask for one.
    package func useNone() throws {
        for name in names(chosen) { unlink("\(chosen)/\(name)") }
    }

    package func choice(for base: BaseName) throws -> RuntimesVersion? {
        guard let text = try? readSmallFile("\(chosen)/\(base)", bytesMax: 256) else { return nil }
        return try RuntimesVersion(String(text.prefix { $0 != "\n" }))
    }

    /// Every version that new sprites of some base get.
    package func choices() throws -> [RuntimesVersion] {
        try names(chosen).compactMap { try BaseName($0) }.compactMap { try choice(for: $0) }
    }

    private func choice(of name: String) throws -> RuntimesVersion? {
        try choices().first { choice in choice.name == name }
    }

    // MARK: Installing

    /// Puts a finished folder in its place, and in that of one that is there already.
    ///
    /// That holds the same names and content, but its metadata need not be the same bytes, may be damaged, and may say
    /// that the objects are elsewhere. Mounts have copies of their own.
    func install(_ folder: String, _ id: RuntimesVersion) throws {
        try makeFolder("\(layers)/\(id.name)")
        if access(path(id), F_OK) == 0 {
            try checked(clinux_exchange(folder, path(id)), "replace layer \(id)")
            try syncFolder("\(layers)/\(id.name)")
            try runTool("rm", ["-rf", "--", folder])
            return
        }
        try system("install layer \(id)") { rename(folder, path(id)) }
        try syncFolder("\(layers)/\(id.name)")
    }

    /// Keeps builds, pulls and collections of one data directory apart.
    package func withLock<Value>(_ body: () throws -> Value) throws -> Value {
        try prepare()
        let file = try Descriptor.open("\(folder)/lock", O_RDWR | O_CREAT)
        guard flock(file.number, LOCK_EX | LOCK_NB) == 0 else {
            throw SpriteError(
                .conflict, "another `sprited runtimes` command works on \(folder); wait until it is done")
        }
        defer { withExtendedLifetime(file) {} }
        return try body()
    }

    /// A fresh folder on the same filesystem; what a killed command left is removed first.
    func scratch() throws -> String {
        let path = "\(folder)/new"
        try runTool("rm", ["-rf", "--", path])
        try makeFolder(path)
        return path
    }

    // MARK: Collecting

    /// Removes versions that nobody needs, then the objects that no version is left for.
    ///
    /// - Parameter inUse: Asked again after the versions are out of sight, so that a sprite made meanwhile keeps its own.
    /// - Returns: Removed versions, objects and bytes.
    package func collect(
        inUse: () throws -> Set<RuntimesVersion>
    ) throws -> (versions: [RuntimesVersion], objects: Int, bytes: UInt64) {
        try withLock {
            let scratch = try scratch()
            var removed: [RuntimesVersion] = []
            var newest: Set<String> = []
            let kept = try inUse().union(choices())
            for info in try list() {
                let id = try info.id
                let isNewest = newest.insert(info.name).inserted
                guard !isNewest, !kept.contains(id) else { continue }
                try system("set layer \(id) aside") { rename(path(id), "\(scratch)/\(id)") }
                if try inUse().contains(id) {
                    try system("put layer \(id) back") { rename("\(scratch)/\(id)", path(id)) }
                } else {
                    removed.append(id)
                }
            }
            var needed: Set<String> = []
            for info in try list() where info.store == nil { needed.formUnion(try objects(try info.id)) }
            var (objects, bytes) = (0, UInt64(0))
            for key in try everyObject() where !needed.contains(key) {
                var facts = stat()
                let path = "\(address.path)/\(key)"
                if lstat(path, &facts) == 0 { bytes += UInt64(facts.st_size) }
                try system("remove \(path)") { unlink(path) }
                objects += 1
                // The folders above it go with their last object.
                var parent = path
                for _ in 0..<2 {
                    parent = String(parent[..<(parent.lastIndex(of: "/") ?? parent.startIndex)])
                    guard rmdir(parent) == 0 else { break }
                }
            }
            try runTool("rm", ["-rf", "--", scratch])
            return (removed, objects, bytes)
        }
    }

    /// Names of a version's objects, relative to the store.
    func objects(_ id: RuntimesVersion) throws -> [String] {
        try readSmallFile("\(path(id))/objects", bytesMax: 64 << 20).split(separator: "\n").map(String.init)
    }

    private func everyObject() throws -> [String] {
        let found = try runTool("find", ["chunks", "-type", "f"], directory: address.path, outputBytesMax: 256 << 20)
        return found.standardOutput.split(separator: "\n").map(String.init)
    }

    // MARK: Checking

    /// Reads every object of a layer whose objects are in a folder, and says what is wrong with which.
    package func damages(_ id: RuntimesVersion) throws -> [String] {
        let info = try info(id)
        let store = info.store ?? address
        guard store.isFolder else {
            throw SpriteError(
                .unsupported, "cannot check \(id): its objects are at \(store); check it where it was published from")
        }
        var result: [String] = []
        if try checksum("\(path(id))/meta.db") != info.metadataChecksum {
            result.append("meta.db of \(id) is damaged: build or pull the layer again")
        }
        for key in try objects(id) {
            let path = "\(store.path)/\(key)"
            guard access(path, R_OK) == 0 else {
                result.append("object \(key) of \(id) is missing in \(store): build or publish the layer again")
                continue
            }
            do {
                try runTool("zstd", ["-q", "-t", "--no-progress", path])
            } catch is ToolFailure {
                result.append("object \(key) of \(id) in \(store) is damaged: delete it, then build or publish again")
            }
        }
        return result
    }
}

func makeFolder(_ path: String) throws {
    var facts = stat()
    if stat(path, &facts) == 0 { return }
    try system("make \(path)") { mkdir(path, 0o700) }
}

/// Names in a folder without those that begin with a dot; empty if it is not there.
func names(_ path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var result: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
            tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if !name.hasPrefix(".") { result.append(name) }
    }
    return result.sorted()
}

/// Replaces a small file as a whole; on the disk when it returns.
func replaceFile(_ path: String, _ content: Data) throws {
    let temporary = "\(path).new"
    do {
        let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC)
        let count = content.withUnsafeBytes { write(file.number, $0.baseAddress, $0.count) }
        guard count == content.count else { throw SystemError(count < 0 ? errno : EIO, "write \(temporary)") }
        try system("write out \(temporary)") { fsync(file.number) }
    }
    try system("replace \(path)") { rename(temporary, path) }
}

func syncFolder(_ path: String) throws {
    let folder = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    try system("write out \(path)") { fsync(folder.number) }
}

/// SHA-256 of a file, in hexadecimal.
func checksum(_ path: String) throws -> String {
    let text = try runTool("sha256sum", ["--", path]).standardOutput
    guard text.utf8.count >= 64 else { throw SystemError(EIO, "checksum \(path)") }
    return String(text.prefix(64))
}
