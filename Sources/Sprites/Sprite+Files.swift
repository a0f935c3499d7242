// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI

/// A file or directory of a sprite.
public struct FileEntry: Sendable, Hashable, Codable {
    /// Its last path component.
    public var name: String
    /// Its whole path.
    public var path: String
    /// `file`, `directory`, `symlink` or `other`.
    public var type: String
    /// In bytes.
    public var size: Int64
    /// Permissions in octal, such as `0644`.
    public var mode: String
}

/// The files of a sprite. Paths are absolute, or relative to the home directory.
///
/// Failures are ``SpritesError`` with the name of the POSIX error as code, such as `ENOENT`.
public struct SpriteFiles: Sendable {
    let sprite: Sprite
    /// Whether to act as the sprite's root instead of its user.
    public var asRoot = false

    private static let home = "/home/sprite"

    func path(_ verb: String, _ file: String, _ more: [API.Query.Item] = []) -> String {
        var query = API.Query([.init("path", file), .init("workingDir", Self.home)] + more)
        if asRoot { query.items.append(.init("asRoot", "true")) }
        return "\(sprite.path)/fs/\(verb)?\(query.encoded)"
    }

    private struct Change: Encodable {
        var workingDir = SpriteFiles.home
        var asRoot: Bool
        var path: String?
        var mode: String?
        var source: String?
        var dest: String?
        var recursive: Bool?
    }

    private func change(_ verb: String, _ change: Change) async throws {
        let body = try sprite.http.encoded(change)
        _ = try await sprite.http.send(.POST, "\(sprite.path)/fs/\(verb)", body: body, timeout: sprite.requestTimeout)
    }

    /// The content of a file of up to 64 MiB.
    public func read(_ file: String) async throws -> [UInt8] {
        let answer = try await sprite.http.send(
            .GET, path("read", file), timeout: sprite.client.options.operationTimeout)
        return Array(answer.body.readableBytesView)
    }

    /// Writes a whole file: readers see the old content or the new.
    ///
    /// - Parameter mode: Permissions, if the file is not there yet.
    public func write(_ file: String, _ content: [UInt8], mode: Int? = nil) async throws {
        let items = mode.map { [API.Query.Item("mode", String($0, radix: 8))] } ?? []
        _ = try await sprite.http.send(
            .PUT, path("write", file, items), body: content, type: "application/octet-stream",
            timeout: sprite.client.options.operationTimeout)
    }

    private struct Listing: Decodable {
        var entries: [FileEntry]
    }

    /// What is in a directory; of a file the file itself.
    public func list(_ directory: String = ".") async throws -> [FileEntry] {
        try await sprite.http.get(path("list", directory), as: Listing.self, timeout: sprite.requestTimeout).entries
    }

    /// Describes one file or directory.
    public func stat(_ file: String) async throws -> FileEntry {
        // A listing describes a file itself, but of a directory what is in it; the parent has its entry.
        let parts = file.split(separator: "/")
        let parent = parts.dropLast().joined(separator: "/")
        let folder = file.hasPrefix("/") ? "/" + parent : parent.isEmpty ? "." : parent
        guard let name = parts.last, name != ".", name != ".." else {
            throw SpritesError(.invalidRequest, "cannot describe '\(file)': it has no name of its own")
        }
        if let found = try await list(folder).first(where: { $0.name == name }) { return found }
        var error = SpritesError(.init(rawValue: "ENOENT"), "\(file): no such file or directory", status: 404)
        error.path = file
        throw error
    }

    /// Whether there is such a file or directory.
    public func exists(_ file: String) async throws -> Bool {
        do {
            _ = try await stat(file)
            return true
        } catch let error as SpritesError where error.code.rawValue == "ENOENT" {
            return false
        }
    }

    /// Makes a directory and those above it; one that is there is no error.
    public func makeDirectory(_ directory: String) async throws {
        try await write(directory + "/.keep", [])
        try await remove(directory + "/.keep")
    }

    /// Removes a file or an empty directory; recursively a directory with everything in it.
    public func remove(_ file: String, recursive: Bool = false) async throws {
        let items = recursive ? [API.Query.Item("recursive", "true")] : []
        _ = try await sprite.http.send(.DELETE, path("delete", file, items), timeout: sprite.requestTimeout)
    }

    /// Renames a file or directory; what has the new name is replaced.
    public func rename(_ source: String, to destination: String) async throws {
        try await change("rename", Change(asRoot: asRoot, source: source, dest: destination))
    }

    /// Copies a file, or a directory with everything in it.
    public func copy(_ source: String, to destination: String) async throws {
        try await change("copy", Change(asRoot: asRoot, source: source, dest: destination, recursive: true))
    }

    /// Changes permissions.
    public func changeMode(_ file: String, _ mode: Int) async throws {
        try await change("chmod", Change(asRoot: asRoot, path: file, mode: String(mode, radix: 8)))
    }
}

extension Sprite {
    /// The files of the sprite.
    public var files: SpriteFiles { SpriteFiles(sprite: self) }
}
