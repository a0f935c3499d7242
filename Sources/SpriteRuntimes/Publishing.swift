// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

extension LayerStore {
    /// What went to another store.
    package struct Transfer: Sendable, Hashable {
        package var copiedObjects = 0
        package var copiedBytes: UInt64 = 0
        package var skippedObjects = 0
        package var deletedObjects = 0
    }

    /// Copies a layer to another store: first the objects that are not there yet, then what refers to them.
    package func publish(
        _ text: String, to target: StoreAddress, progress: (RuntimesProgress) -> Void
    ) throws -> (layer: LayerInfo, transfer: Transfer) {
        try withLock {
            let info = try find(text)
            let id = try info.id
            guard info.store == nil else {
                throw SpriteError(
                    .conflict, "cannot publish \(id): it was pulled from elsewhere and its objects are not here")
            }
            guard target != address else {
                throw SpriteError(.invalidRequest, "cannot publish \(id): \(target) is where it already is")
            }
            if target.isFolder { try makeFolder(target.path) }
            let scratch = try scratch()
            let keys = try objects(id)
            var state = RuntimesProgress(
                step: "uploading", totalBytes: info.storedBytes, totalFiles: info.objects)
            progress(state)
            var transfer = Transfer()
            for (number, portion) in try portions(keys, of: info.storedBytes, id).enumerated() {
                // Links, so that a store that holds other layers as well sends only what this one needs.
                let folder = "\(scratch)/\(number)"
                try makeFolder(folder)
                for key in keys[portion.range] {
                    try makeFolders(above: key, in: folder)
                    try system("link object \(key)") { link("\(address.path)/\(key)", "\(folder)/\(key)") }
                }
                let part = try copy("\(folder)/chunks/", to: target, "/chunks/", id)
                transfer.copiedObjects += part.copiedObjects
                transfer.skippedObjects += part.skippedObjects
                state.doneBytes = min(state.totalBytes, state.doneBytes + portion.bytes)
                state.doneFiles += portion.range.count
                progress(state)
            }
            _ = try copy("\(path(id))/", to: target, "/layers/\(id.name)/\(id.version)/", id)
            try makeFolder("\(scratch)/latest")
            try runTool("cp", ["--", "\(path(id))/layer.json", "\(scratch)/latest/latest.json"])
            _ = try copy("\(scratch)/latest/", to: target, "/layers/\(id.name)/", id, ["--force-update"])
            try runTool("rm", ["-rf", "--", scratch])
            return (info, transfer)
        }
    }

    /// Fetches a layer's metadata; its objects stay where they are and come when they are read.
    package func pull(_ text: String, from source: StoreAddress) throws -> LayerInfo {
        try withLock {
            let scratch = try scratch()
            let name: String
            let id: RuntimesVersion
            if text.contains("@") {
                id = try RuntimesVersion(text)
                name = id.name
            } else {
                name = try RuntimesVersion.checkedName(text)
                try fetch(source, "/layers/\(name)/", "\(scratch)/latest/", only: ["latest.json"])
                let path = "\(scratch)/latest/latest.json"
                guard access(path, R_OK) == 0 else { throw notThere(text, source) }
                id = try readInfo(path).id
            }
            let folder = "\(scratch)/layer"
            try fetch(
                source, "/layers/\(id.name)/\(id.version)/", "\(folder)/",
                only: ["layer.json", "meta.db", "objects", "profile"])
            guard access("\(folder)/layer.json", R_OK) == 0 else { throw notThere(text, source) }
            var info = try readInfo("\(folder)/layer.json")
            guard try info.id == id, try checksum("\(folder)/meta.db") == info.metadataChecksum else {
                throw SpriteError(
                    .internalError, "cannot pull \(id): its metadata at \(source) is damaged; publish the layer again")
            }
            info.store = source
            // Built here as well: then the objects that are here already serve it.
            if let known = try? self.info(id), known.store == nil,
                try checksum("\(path(id))/meta.db") == known.metadataChecksum
            {
                return known
            }
            try replaceFile("\(folder)/layer.json", try info.json)
            chmod("\(folder)/meta.db", 0o444)
            try install(folder, id)
            return info
        }
    }

    func readInfo(_ path: String) throws -> LayerInfo {
        do {
            return try LayerInfo(file: path)
        } catch {
            throw SpriteError(.internalError, "cannot pull: what describes the layer is damaged; publish it again")
        }
    }

    private func notThere(_ text: String, _ source: StoreAddress) -> SpriteError {
        SpriteError(.notFound, "cannot pull \(text): there is no such layer at \(source)")
    }

    /// - Parameter names: Of a store that somebody else fills, nothing but these comes: the name of an object may hold `..`.
    func fetch(_ source: StoreAddress, _ under: String, _ target: String, only names: [String]) throws {
        let (url, more) = source.location(under)
        try makeFolder(String(target.dropLast()))
        if source.isFolder, access(url, F_OK) != 0 { return }
        let options = ["--exclude", ".."] + names.flatMap { ["--include", "/\($0)"] } + ["--exclude", "*"]
        _ = try synchronize(url, target, more + options, source, verb: "pull")
    }

    func makeFolders(above key: String, in folder: String) throws {
        var parent = folder
        for part in key.split(separator: "/").dropLast() {
            parent += "/\(part)"
            if mkdir(parent, 0o700) != 0, errno != EEXIST { throw SystemError(errno, "make \(parent)") }
        }
    }

    private func copy(
        _ folder: String, to target: StoreAddress, _ under: String, _ id: RuntimesVersion, _ more: [String] = []
    ) throws -> Transfer {
        let (url, options) = target.location(under)
        return try synchronize(
            folder, url, options + more, target, verb: "publish \(id)")
    }

    /// Cuts objects into pieces of a tenth of the whole, so that there is progress to show.
    private func portions(
        _ keys: [String], of bytes: UInt64, _ id: RuntimesVersion
    ) throws -> [(range: Range<Int>, bytes: UInt64)] {
        var result: [(range: Range<Int>, bytes: UInt64)] = []
        var (start, size) = (0, UInt64(0))
        for (index, key) in keys.enumerated() {
            var facts = stat()
            guard stat("\(address.path)/\(key)", &facts) == 0 else {
                throw SpriteError(
                    .internalError,
                    "cannot publish \(id): object \(key) is missing in \(address.path); build the layer again")
            }
            size += UInt64(facts.st_size)
            guard size >= max(bytes / 10, 16 << 20) || index == keys.count - 1 else { continue }
            result.append((start..<index + 1, size))
            (start, size) = (index + 1, 0)
        }
        return result
    }

    func synchronize(
        _ from: String, _ to: String, _ options: [String], _ store: StoreAddress, verb: String
    ) throws -> Transfer {
        let output: ToolOutput
        do {
            output = try runTool(
                try JuiceFS.program(),
                ["sync", "--metrics", "127.0.0.1:0", "--threads", "16"] + options + [from, to],
                environment: JuiceFS.environment())
        } catch let failure as ToolFailure {
            throw SpriteError(.internalError, "cannot \(verb): \(reason(failure.standardError, store))", cause: failure)
        }
        // `Found: 9, skipped: 2 (1.2 MiB), copied: 7 (3.4 MiB)`, in bytes if it says so.
        var transfer = Transfer()
        let words = (output.standardError + output.standardOutput).split { " ,:()\n\r".contains($0) }.map(String.init)
        for (index, word) in words.enumerated() where index + 1 < words.count {
            if word == "copied" { transfer.copiedObjects = Int(words[index + 1]) ?? transfer.copiedObjects }
            if word == "deleted" { transfer.deletedObjects = Int(words[index + 1]) ?? transfer.deletedObjects }
            if word == "skipped" { transfer.skippedObjects = Int(words[index + 1]) ?? transfer.skippedObjects }
        }
        return transfer
    }

    /// What the store said, as something to act on.
    private func reason(_ text: String, _ store: StoreAddress) -> String {
        if let known = store.explanation(text) { return known }
        return "the copying to or from \(store) failed: \(text.split(separator: "\n").last.map(String.init) ?? "")"
    }
}
