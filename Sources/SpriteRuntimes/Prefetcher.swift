// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem
import Synchronization

/// Fetches what a use of a layer will read as soon as it has begun, many objects at once.
///
/// A program asks for one block after another, and from a store that is far away each takes its time. The layer's profile
/// says what was read when such a program ran before. Whenever a file is opened, what all uses that read this file have in
/// common is read ahead: little for one that many uses read, all of a use for one that no other has. The same whenever a
/// part is read that fewer uses have in common than the whole file.
///
/// Runs in a process of its own: who waits for a file of a mount cannot be ended before it is answered, and the daemon,
/// which holds the mount's descriptor, would then wait for itself.
package final class Prefetcher {
    private struct Part {
        var path: String
        var ranges: RangeSet<Int>
    }

    private let mount: String
    private let index: LayerIndex
    /// For each use its files, in the order of their first use.
    private let uses: [[(inode: Int64, path: String)]]
    /// Which uses read the file, and what of it.
    private var readers: [Int64: [Int: RangeSet<Int>]] = [:]
    private var blocks: Set<LayerIndex.Block> = []
    private var fetched: [Int64: RangeSet<Int>] = [:]

    /// How many objects are fetched at once: more fill the way to the store, not shorten it.
    private static let fetchers = 8
    /// How many parts of files are read into memory at once.
    private static let fillers = 3

    /// - Parameters:
    ///   - mount: Where the file system is mounted, above the layer's root.
    /// - Returns: Nil if the profile has nothing that is in this layer.
    package init?(profile path: String, metadata: String, mount: String) throws {
        let profile = RuntimesProfile(text: try readSmallFile(path, bytesMax: 4 << 20))
        let index = try LayerIndex(metadata)
        var uses: [[(inode: Int64, path: String)]] = []
        for group in profile.groups {
            var files: [(inode: Int64, path: String)] = []
            for file in group {
                guard let inode = try index.inode(file.path) else { continue }
                files.append((inode, file.path))
                let content = RangeSet(0..<(try index.size(inode)))
                readers[inode, default: [:]][uses.count, default: RangeSet()].formUnion(
                    file.ranges.intersection(content))
            }
            uses.append(files)
        }
        guard !readers.isEmpty else { return nil }
        (self.mount, self.index, self.uses) = (mount, index, uses)
    }

    /// Returns when everything was fetched once, or JuiceFS ended.
    package func listen() {
        guard var log = try? AccessLog(mount: mount) else { return }
        var waiting = triggers()
        while !waiting.isEmpty, let accesses = try? log.next() {
            for access in accesses {
                guard let users = users(of: access), waiting.contains(users), !isRecorded() else { continue }
                waiting.remove(users)
                fetch(common(to: users))
            }
        }
    }

    /// Every set of uses that a file, or a part of one, belongs to alone.
    private func triggers() -> Set<Set<Int>> {
        var result: Set<Set<Int>> = []
        for uses in readers.values {
            result.insert(Set(uses.keys))
            for bound in uses.values.flatMap({ $0.ranges.flatMap { [$0.lowerBound, $0.upperBound] } }) {
                let users = Set(uses.filter { $0.value.contains(bound) }.keys)
                if !users.isEmpty { result.insert(users) }
            }
        }
        return result
    }

    /// Which uses do that: an opened file tells less of them apart than what of it is read.
    private func users(of access: AccessLog.Access) -> Set<Int>? {
        switch access {
        case .open(let inode): return readers[inode].map { Set($0.keys) }
        case .read(let inode, let offset, _):
            let place = Int(offset)
            let users = readers[inode].map { Set($0.filter { $0.value.contains(place) }.keys) }
            // The kernel reads more than was asked for: what one use alone read beside the others says little.
            return users.flatMap { $0.count > 1 ? $0 : nil }
        }
    }

    /// Whether somebody writes down what is read: then nothing is read but what programs ask for.
    private func isRecorded() -> Bool {
        guard let file = try? Descriptor.open(ProfileRecorder.mark(mount), O_RDONLY) else { return false }
        return flock(file.number, LOCK_SH | LOCK_NB) != 0
    }

    /// What all these uses read and nothing has fetched yet, in the order in which one of them reads it.
    private func common(to users: Set<Int>) -> [(inode: Int64, part: Part)] {
        guard let first = users.min() else { return [] }
        var result: [(inode: Int64, part: Part)] = []
        for (inode, path) in uses[first] {
            guard let ranges = readers[inode], var shared = ranges[first] else { continue }
            for user in users { shared.formIntersection(ranges[user] ?? RangeSet()) }
            shared.subtract(fetched[inode] ?? RangeSet())
            fetched[inode, default: RangeSet()].formUnion(shared)
            if !shared.isEmpty { result.append((inode, Part(path: path, ranges: shared))) }
        }
        return result
    }

    /// Ends this process when the daemon, which holds the other end of its standard input, has closed that or is gone.
    package static func endWithDaemon() {
        startThread {
            var byte: UInt8 = 0
            while read(STDIN_FILENO, &byte, 1) > 0 {}
            _exit(0)
        }
    }

    /// Has the objects brought into JuiceFS's cache, many at once, and their parts from there into the kernel's.
    ///
    /// A program waits for each part that it asks for; in large pieces, one after the other, they come in a third of the time.
    private func fetch(_ parts: [(inode: Int64, part: Part)]) {
        var objects: [Piece] = []
        var pieces: [Piece] = []
        for (inode, part) in parts {
            for (block, offset) in (try? index.blocks(inode, part.ranges)) ?? [] where blocks.insert(block).inserted {
                objects.append(Piece(path: part.path, range: offset..<offset + 1))
            }
            for range in part.ranges.ranges {
                for start in stride(from: range.lowerBound, to: range.upperBound, by: Piece.bytesMax) {
                    pieces.append(
                        Piece(path: part.path, range: start..<min(start + Piece.bytesMax, range.upperBound)))
                }
            }
        }
        let mount = mount
        work(objects, threads: Self.fetchers) { $0.fetch(below: mount) }
        work(pieces, threads: Self.fillers) { $0.fill(below: mount) }
    }

    private func work(_ pieces: [Piece], threads: Int, _ body: @escaping @Sendable (Piece) -> Void) {
        let queue = Queue(pieces)
        for _ in 0..<min(threads, pieces.count) {
            startThread { while let piece = queue.next() { body(piece) } }
        }
    }

    private final class Queue: Sendable {
        private let waiting: Mutex<[Piece]>

        init(_ pieces: [Piece]) { waiting = Mutex(pieces.reversed()) }

        func next() -> Piece? { waiting.withLock { $0.popLast() } }
    }
}

/// A part of a file of a mounted layer. What fails here fails again where it is wanted.
private struct Piece: Sendable {
    var path: String
    var range: Range<Int>

    static let bytesMax = 1 << 20
    /// What the kernel reads at once; more it leaves out.
    private static let requestBytes = 256 << 10

    private func open(below mount: String) -> Descriptor? {
        try? Descriptor.open("\(mount)/root\(path)", O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    }

    /// One byte brings the whole object into the cache.
    func fetch(below mount: String) {
        guard let file = open(below: mount) else { return }
        posix_fadvise(file.number, 0, 0, POSIX_FADV_RANDOM)
        var byte: UInt8 = 0
        _ = pread(file.number, &byte, 1, off_t(range.lowerBound))
    }

    /// Returns when the kernel has it. Reading would follow the marks that the program's own reading left, and with them
    /// fetch what nobody uses: advice does not, nor does a mapping that is said to be used in leaps.
    func fill(below mount: String) {
        guard let file = open(below: mount) else { return }
        // Doubles what one request may be.
        posix_fadvise(file.number, 0, 0, POSIX_FADV_SEQUENTIAL)
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.requestBytes) {
            let count = min(Self.requestBytes, range.upperBound - start)
            posix_fadvise(file.number, off_t(start), off_t(count), POSIX_FADV_WILLNEED)
        }
        guard let mapping = mmap(nil, range.count, PROT_READ, MAP_SHARED, file.number, off_t(range.lowerBound)),
            mapping != MAP_FAILED
        else { return }
        madvise(mapping, range.count, MADV_RANDOM)
        madvise(mapping, range.count, MADV_POPULATE_READ)
        munmap(mapping, range.count)
    }
}
