// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Tells what changes below some paths, one JSON object a line, until it is killed.
struct FileWatching {
    /// Directories watched at once; the kernel has a limit of its own for each user.
    private static let directoriesMax = 8192
    private static let mask = UInt32(
        IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF)

    private struct Place {
        var path: String
        var isDirectory: Bool
    }

    private let paths: [String]
    private let isRecursive: Bool

    init(_ request: FileRequest) throws {
        _ = try request.path()
        paths = request.paths
        isRecursive = request.has("recursive")
    }

    func run(_ output: FileOutput) throws {
        let watcher = Descriptor(owning: try attempt("inotify") { inotify_init1(Int32(IN_CLOEXEC)) })
        var places: [Int32: Place] = [:]
        for path in paths { try watch(path, watcher, &places, follows: true) { _, _ in } }
        try output.beginBody(
            .object([("type", .text("subscribed")), ("paths", .list(paths.map { .text($0) }))]))
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(watcher.number, &buffer, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw FileFailure(errno, "inotify")
            }
            try take(buffer[..<count], watcher, &places, output)
            try output.flush()
        }
    }

    private func take(
        _ bytes: ArraySlice<UInt8>, _ watcher: Descriptor, _ places: inout [Int32: Place], _ output: FileOutput
    ) throws {
        var rest = bytes
        var previous: [UInt8] = []
        let headBytes = 16
        while rest.count >= headBytes {
            let head = Array(rest.prefix(headBytes))
            let (number, mask, length) = head.withUnsafeBytes {
                (
                    $0.loadUnaligned(as: Int32.self), $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self),
                    $0.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
                )
            }
            let name = EntryName(
                rest.dropFirst(headBytes).prefix(Int(length)).prefix { $0 != 0 }.map { CChar(bitPattern: $0) } + [0])
            rest = rest.dropFirst(headBytes + Int(length))
            if mask & UInt32(IN_Q_OVERFLOW) != 0 {
                let text = "events were lost: there were too many"
                try send(.object([("type", .text("error")), ("message", .text(text))]), output)
                continue
            }
            if mask & UInt32(IN_IGNORED) != 0 {
                places[number] = nil
                continue
            }
            guard let place = places[number] else { continue }
            let path = name.raw.isEmpty ? place.path : FileTree.join(place.path, name)
            // A directory that goes is told by the one above it, if that is watched as well.
            if mask & UInt32(IN_DELETE_SELF) != 0, isRecursive, !paths.contains(place.path) { continue }
            guard let event = FileWatching.event(mask) else { continue }
            let isDirectory = mask & UInt32(IN_ISDIR) != 0 || (name.raw.isEmpty && place.isDirectory)
            let line = FileWatching.line(path, event, isDirectory)
            // One write of a program is many of the kernel's.
            if line.key != previous { try send(line.json, output) }
            previous = line.key
            if isRecursive, isDirectory, event == "create" {
                // What was made in it before it was watched.
                try? watch(path, watcher, &places, follows: false) { path, isDirectory in
                    try send(FileWatching.line(path, "create", isDirectory).json, output)
                }
            }
        }
    }

    private static func event(_ mask: UInt32) -> String? {
        for (bits, event) in [
            (IN_CREATE | IN_MOVED_TO, "create"), (IN_DELETE | IN_DELETE_SELF, "remove"), (IN_MOVED_FROM, "rename"),
            (IN_MODIFY, "write"), (IN_ATTRIB, "chmod"),
        ] where mask & UInt32(bits) != 0 { return event }
        return nil
    }

    private static func line(_ path: String, _ event: String, _ isDirectory: Bool) -> (key: [UInt8], json: JSONText) {
        var facts = stat()
        let size = lstat(path, &facts) == 0 ? Int64(facts.st_size) : 0
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return (
            Array("\(event) \(path)".utf8),
            .object([
                ("type", .text("event")), ("path", .text(path)), ("event", .text(event)),
                ("timestamp", .text(timeText(now))), ("size", .number(size)), ("isDir", .bool(isDirectory)),
            ])
        )
    }

    private func send(_ json: JSONText, _ output: FileOutput) throws {
        try output.write(json.bytes + [0x0A])
    }

    /// - Parameter found: Called with everything that is below the path already.
    private func watch(
        _ path: String, _ watcher: Descriptor, _ places: inout [Int32: Place], follows: Bool, depth: Int = 0,
        found: (String, Bool) throws -> Void
    ) throws {
        guard places.count < FileWatching.directoriesMax else {
            throw FileFailure(ENOSPC, path, "there are more than \(FileWatching.directoriesMax) directories to watch")
        }
        let links = follows ? 0 : UInt32(IN_DONT_FOLLOW)
        let number = try attempt(path) { inotify_add_watch(watcher.number, path, FileWatching.mask | links) }
        guard let directory = try? FileWatching.openDirectory(path, follows: follows) else {
            places[number] = Place(path: path, isDirectory: false)
            return
        }
        places[number] = Place(path: path, isDirectory: true)
        guard isRecursive, depth < FileTree.depthMax else { return }
        for name in (try? FileTree.names(directory, path)) ?? [] {
            let below = FileTree.join(path, name)
            try found(below, name.isDirectory)
            guard name.isDirectory else { continue }
            do {
                try watch(below, watcher, &places, follows: false, depth: depth + 1, found: found)
            } catch let failure as FileFailure where [ENOENT, EACCES, ENOTDIR].contains(failure.number) {}
        }
    }

    private static func openDirectory(_ path: String, follows: Bool) throws -> Descriptor {
        let flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC | (follows ? 0 : O_NOFOLLOW)
        return Descriptor(owning: try attempt(path) { open(path, flags) })
    }
}
