// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What is below `/fs` of a sprite.
enum FileOperation: String, Sendable, Equatable {
    case read, list, write, delete, rename, copy, chmod, chown, watch
    /// A directory as one tar stream; an addition of this server.
    case archive

    var methods: [String] {
        switch self {
        case .read, .list, .watch: ["GET"]
        case .write: ["PUT"]
        case .delete: ["DELETE"]
        case .rename, .copy, .chmod, .chown: ["POST"]
        case .archive: ["GET", "PUT"]
        }
    }
}

/// Paths as clients give them.
enum FilePath {
    /// PATH_MAX of Linux without the zero at the end.
    static let bytesMax = 4095

    /// The absolute path without `.`, `..` and empty parts; `..` is taken away together with what is before it.
    static func resolve(_ path: String, in directory: String?) throws -> String {
        var parts: [Substring] = []
        let whole = path.hasPrefix("/") ? path : (directory ?? "/") + "/" + path
        guard !whole.utf8.contains(0) else {
            throw FileProblem(code: "EINVAL", text: "invalid argument: the path has a NUL byte", path: "")
        }
        for part in whole.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        let resolved = "/" + parts.joined(separator: "/")
        guard resolved.utf8.count <= bytesMax, parts.allSatisfy({ $0.utf8.count <= 255 }) else {
            throw FileProblem(code: "ENAMETOOLONG", text: "file name too long", path: String(resolved.prefix(256)))
        }
        return resolved
    }
}
