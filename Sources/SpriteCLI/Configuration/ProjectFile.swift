// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc

/// `.sprite`, which says the sprite of a project: `{"organization": "local", "sprite": "demo"}`.
struct ProjectFile: Codable {
    var organization: String?
    var sprite: String?

    static let name = ".sprite"

    /// The nearest one, in this directory or above it.
    static func find() throws -> (path: String, content: ProjectFile)? {
        var folder = try currentDirectory()
        while true {
            let path = folder == "/" ? "/\(name)" : "\(folder)/\(name)"
            var status = stat()
            // A directory of that name, as inside a sprite at the root, is not ours.
            if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, let bytes = try readFile(path) {
                guard let content = try? JSONDecoder().decode(ProjectFile.self, from: Data(bytes)) else {
                    throw CommandFailure("cannot read \(path): it is not JSON; `sprite use NAME` writes it anew")
                }
                return (path, content)
            }
            guard folder != "/", let slash = folder.lastIndex(of: "/") else { return nil }
            folder = slash == folder.startIndex ? "/" : String(folder[..<slash])
        }
    }

    /// Writes it to this directory.
    func save() throws -> String {
        let path = "\(try currentDirectory())/\(Self.name)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        try replaceFile(path, with: Array(try encoder.encode(self)) + [0x0A], mode: 0o644)
        return path
    }
}
