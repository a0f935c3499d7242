// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem
import Synchronization

/// Compares two states where something was touched.
///
/// What the kernel's stream mentions is only where to look: what differs is what the two views show.
struct TreeComparison: ~Copyable {
    /// A difference and what identifies the things it is about.
    struct Found {
        var change: TreeChange
        var before: clinux_entry?
        var after: clinux_entry?
    }

    private let older: TreeState
    private let newer: TreeState
    private let options: TreeDiffOptions
    private let watch: ComparisonWatch
    private var touches: [[UInt8]: Touch]
    private(set) var found: [Found] = []
    private var contents = ContentComparison()
    /// Everything below this was compared already.
    private var covered: [UInt8]?

    init(_ older: TreeState, _ newer: TreeState, options: TreeDiffOptions, watch: ComparisonWatch) {
        self.older = older
        self.newer = newer
        self.options = options
        self.watch = watch
        touches = [:]
    }

    /// - Parameter raw: Places in the subvolumes.
    mutating func run(_ raw: [[UInt8]: Touch]) throws {
        for (path, touch) in raw {
            guard let place = TreeState.place(path) else { continue }
            try add(place, touch)
            // The kernel mentions one name of a file that has several.
            if touch.hasContent || touch.isStructural {
                for name in try newer.namesOfInode(place) where name != place { try add(name, touch) }
            }
        }
        let places = touches.keys.map { PlaceKey($0) }.sorted()
        for place in places {
            try watch.check()
            if let covered, place.path == covered || isBelow(place.path, covered) { continue }
            try compare(place.path)
        }
    }

    private mutating func add(_ place: [UInt8], _ touch: Touch) throws {
        if let wanted = options.path, wanted != [0x2F], place != wanted, !isBelow(place, wanted) {
            // A directory above may have been exchanged as a whole.
            guard touch.isStructural, isBelow(wanted, place) else { return }
            var whole = Touch()
            whole.isStructural = true
            whole.isMoved = true
            touches[wanted, default: Touch()].merge(whole)
            return
        }
        touches[place, default: Touch()].merge(touch)
    }

    private func checkGoesOn() throws {
        try watch.check()
        guard found.count < Limits.diffEntriesMax else {
            throw SpriteError(
                .tooLarge,
                "cannot compare: more than \(Limits.diffEntriesMax) names differ; ask for a path, or for states closer "
                    + "together")
        }
    }

    // MARK: One place

    private mutating func compare(_ path: [UInt8]) throws {
        let before = try older.inspect(path)
        let after = try newer.inspect(path)
        let touch = touches[path] ?? Touch()
        guard let before, let after, TreeEntry(before).kind == .directory, TreeEntry(after).kind == .directory else {
            return try tell(path, before, after, depth: 0)
        }
        guard touch.isStructural, path != [0x2F], try isExchanged(path, touch) else {
            return try tellFields(path, before, after)
        }
        covered = path
        try compareWhole(path, before, after, depth: 0)
    }

    /// Whether the directory stands for another one than before, so that anything in it may differ.
    private func isExchanged(_ path: [UInt8], _ touch: Touch) throws -> Bool {
        if touch.isMoved || older.layer(path) != newer.layer(path) { return true }
        guard let old = older.inspectUpper(path), let new = newer.inspectUpper(path) else { return false }
        return old.inode != new.inode || old.born != new.born
    }

    /// Reports what is at one place, and all that lies in it where it is new or gone.
    private mutating func tell(_ path: [UInt8], _ before: clinux_entry?, _ after: clinux_entry?, depth: Int) throws {
        switch (before, after) {
        case (nil, nil):
            return
        case (.some(let before), .some(let after)):
            try tellFields(path, before, after)
            if TreeEntry(before).kind == TreeEntry(after).kind { return }
            try tellContents(path, of: older, isAdded: false, depth: depth)
            try tellContents(path, of: newer, isAdded: true, depth: depth)
        case (nil, .some(let after)):
            try checkGoesOn()
            found.append(Found(change: TreeChange(.added, path, after: TreeEntry(after)), after: after))
            try tellContents(path, of: newer, isAdded: true, depth: depth)
        case (.some(let before), nil):
            try checkGoesOn()
            found.append(Found(change: TreeChange(.removed, path, before: TreeEntry(before)), before: before))
            try tellContents(path, of: older, isAdded: false, depth: depth)
        }
    }

    private mutating func tellContents(_ path: [UInt8], of state: TreeState, isAdded: Bool, depth: Int) throws {
        guard let entry = try state.inspect(path), TreeEntry(entry).kind == .directory else { return }
        covered = covered.flatMap { isBelow(path, $0) ? $0 : nil } ?? path
        guard let directory = try state.open(path, O_RDONLY | O_DIRECTORY) else { return }
        try checkDepth(depth)
        for name in try state.names(in: directory) {
            let place = join(path, name)
            // Another part of the disk is mounted there; it is told by itself.
            if state.isPlain(place), !state.isPlain(path) { continue }
            guard let entry = try state.inspect(name, in: directory) else { continue }
            try checkGoesOn()
            let facts = TreeEntry(entry)
            found.append(
                isAdded
                    ? Found(change: TreeChange(.added, place, after: facts), after: entry)
                    : Found(change: TreeChange(.removed, place, before: facts), before: entry))
            if facts.kind == .directory { try tellContents(place, of: state, isAdded: isAdded, depth: depth + 1) }
        }
    }

    private mutating func compareWhole(
        _ path: [UInt8], _ before: clinux_entry, _ after: clinux_entry, depth: Int
    ) throws {
        try tellFields(path, before, after)
        try checkDepth(depth)
        guard let old = try older.open(path, O_RDONLY | O_DIRECTORY),
            let new = try newer.open(path, O_RDONLY | O_DIRECTORY)
        else { return }
        let names = Set(try older.names(in: old)).union(try newer.names(in: new))
        for name in names.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            let place = join(path, name)
            if newer.isPlain(place), !newer.isPlain(path) { continue }
            try checkGoesOn()
            let before = try older.inspect(name, in: old)
            let after = try newer.inspect(name, in: new)
            if let before, let after, TreeEntry(before).kind == .directory, TreeEntry(after).kind == .directory {
                try compareWhole(place, before, after, depth: depth + 1)
            } else {
                try tell(place, before, after, depth: depth + 1)
            }
        }
    }

    private func checkDepth(_ depth: Int) throws {
        guard depth < Limits.treeDepthMax else {
            throw SpriteError(
                .tooLarge, "cannot compare: directories lie in each other deeper than \(Limits.treeDepthMax)")
        }
    }

    // MARK: One entry

    private mutating func tellFields(_ path: [UInt8], _ before: clinux_entry, _ after: clinux_entry) throws {
        let fields = try self.fields(path, before, path, after)
        guard !fields.isEmpty else { return }
        try checkGoesOn()
        let change = TreeChange(
            .changed, path, fields: fields, before: TreeEntry(before), after: TreeEntry(after))
        found.append(Found(change: change, before: before, after: after))
    }

    /// What differs between two entries, at the same place or not.
    mutating func fields(
        _ oldPath: [UInt8], _ before: clinux_entry, _ newPath: [UInt8], _ after: clinux_entry
    ) throws -> [TreeChange.Field] {
        let old = TreeEntry(before)
        let new = TreeEntry(after)
        guard old.kind == new.kind else { return [.type] }
        var fields: [TreeChange.Field] = []
        switch old.kind {
        case .file:
            let touch = touches[newPath]
            let hasContent = touch?.hasContent == true || touches[oldPath]?.hasContent == true
            // One inode, to which nothing was written.
            let isSame = before.inode == after.inode && before.born == after.born && before.born != 0
            if old.size != new.size {
                fields.append(.content)
            } else if !isSame || hasContent {
                let ranges = isSame && oldPath == newPath ? touch?.ranges : nil
                if try contents.differ(older.openFile(oldPath), newer.openFile(newPath), in: ranges) {
                    fields.append(.content)
                }
            }
        case .symlink:
            if try target(oldPath, older) != target(newPath, newer) { fields.append(.target) }
        case .characterDevice, .blockDevice:
            if before.device != after.device { fields.append(.device) }
        case .directory, .fifo, .socket:
            break
        }
        if old.mode != new.mode, old.kind != .symlink { fields.append(.mode) }
        if old.user != new.user || old.group != new.group { fields.append(.owner) }
        if old.kind == .file || old.kind == .directory,
            try older.attributes(oldPath) != newer.attributes(newPath)
        {
            fields.append(.attributes)
        }
        return fields
    }

    private func target(_ path: [UInt8], _ state: TreeState) throws -> [UInt8]? {
        guard let link = try state.open(path, clinux_path_only()) else { return nil }
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = clinux_read_link(link.number, &buffer, buffer.count)
        return count < 0 ? nil : buffer[..<Int(count)].map(UInt8.init(bitPattern:))
    }
}

/// Ends a comparison whose client has gone, or that takes too long.
final class ComparisonWatch: Sendable {
    private let isCancelled = Mutex(false)
    private let deadline = ContinuousClock.now + Limits.diffTimeout

    func cancel() { isCancelled.withLock { $0 = true } }

    func check() throws {
        if isCancelled.withLock({ $0 }) { throw CancellationError() }
        guard ContinuousClock.now < deadline else {
            throw SpriteError(
                .timeout,
                "cannot compare: it takes longer than \(Limits.diffTimeout.components.seconds) s; ask for a path, or for "
                    + "states closer together")
        }
    }
}

/// Tells whether files hold the same bytes, reading no more than it may.
struct ContentComparison {
    private var bytesLeft = Limits.diffReadBytesMax

    /// - Parameter ranges: Where something was written to the one inode both are states of; nil for anywhere.
    mutating func differ(_ a: Descriptor?, _ b: Descriptor?, in ranges: [Range<UInt64>]?) throws -> Bool {
        // What cannot be opened any more was at least touched.
        guard let a, let b else { return true }
        if ranges == nil, clinux_same_extents(a.number, b.number) == 1 { return false }
        for range in ranges ?? [0..<UInt64(Int64.max)] {
            if try differ(a, b, range) { return true }
        }
        return false
    }

    private mutating func differ(_ a: Descriptor, _ b: Descriptor, _ range: Range<UInt64>) throws -> Bool {
        let size = 256 << 10
        var left = [UInt8](repeating: 0, count: size)
        var right = [UInt8](repeating: 0, count: size)
        var offset = range.lowerBound
        while offset < range.upperBound {
            guard bytesLeft > 0 else { return true }
            let wanted = Int(min(UInt64(size), range.upperBound - offset))
            let count = pread(a.number, &left, wanted, off_t(offset))
            let other = pread(b.number, &right, wanted, off_t(offset))
            if count < 0 || other < 0 { throw SystemError(errno, "read a file of a disk") }
            if count != other || left[..<count] != right[..<count] { return true }
            if count == 0 { return false }
            offset += UInt64(count)
            bytesLeft -= min(bytesLeft, UInt64(count))
        }
        return false
    }
}

/// Sorts places so that what lies in a directory follows it at once.
struct PlaceKey: Comparable {
    let path: [UInt8]
    private let key: [UInt8]
    init(_ path: [UInt8]) {
        self.path = path
        key = path.map { $0 == 0x2F ? 0 : $0 }
    }
    static func < (a: PlaceKey, b: PlaceKey) -> Bool {
        a.key.withUnsafeBytes { x in
            b.key.withUnsafeBytes { y in
                guard let first = x.baseAddress, let second = y.baseAddress else { return x.count < y.count }
                let order = memcmp(first, second, min(x.count, y.count))
                return order != 0 ? order < 0 : x.count < y.count
            }
        }
    }
}

func isBelow(_ path: [UInt8], _ directory: [UInt8]) -> Bool {
    directory == [0x2F]
        ? path.count > 1
        : path.count > directory.count && path[directory.count] == 0x2F
            && path.starts(with: directory)
}

func join(_ directory: [UInt8], _ name: [UInt8]) -> [UInt8] {
    directory == [0x2F] ? directory + name : directory + [0x2F] + name
}
