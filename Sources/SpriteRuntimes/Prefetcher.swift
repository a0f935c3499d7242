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
    /// Something of a file that uses read.
    private struct Part {
        var inode: Int64
        var ranges: RangeSet<Int>
    }

    private let mount: String
    private let index: LayerIndex
    /// Where files lie in those that JuiceFS serves, if it serves nothing but content.
    private let layout: ContentLayout?
    /// For each use its files, in the order of their first use.
    private let uses: [[Int64]]
    private var paths: [Int64: String] = [:]
    /// Which uses read the file, and what of it.
    private var readers: [Int64: [Int: RangeSet<Int>]] = [:]
    private var blocks: Set<LayerIndex.Block> = []
    private var fetched: [Int64: RangeSet<Int>] = [:]
    /// Where what was read last of each file of content ends.
    private var readEnds: [Int64: [Int64]] = [:]
    private static let readEndsMax = 4

    /// How many objects are fetched at once: more fill the way to the store, not shorten it.
    private static let fetchers = 8
    /// How many parts of files are read into memory at once.
    private static let fillers = 3

    /// - Parameters:
    ///   - mount: Where JuiceFS is mounted, above the layer's root or with its content.
    ///   - layout: The file that says where in that content a file lies, if it is there.
    /// - Returns: Nil if the profile has nothing that is in this layer.
    package init?(profile path: String, metadata: String, mount: String, layout: String) throws {
        let profile = RuntimesProfile(text: try readSmallFile(path, bytesMax: 4 << 20))
        let index = try LayerIndex(metadata)
        var uses: [[Int64]] = []
        for group in profile.groups {
            var files: [Int64] = []
            for file in group {
                guard let inode = try index.inode(file.path) else { continue }
                files.append(inode)
                paths[inode] = file.path
                let content = RangeSet(0..<(try index.size(inode)))
                readers[inode, default: [:]][uses.count, default: RangeSet()].formUnion(
                    file.ranges.intersection(content))
            }
            uses.append(files)
        }
        guard !readers.isEmpty else { return nil }
        (self.mount, self.index, self.uses) = (mount, index, uses)
        self.layout = try ContentLayout(file: layout)
    }

    /// Returns when everything was fetched once, or JuiceFS ended.
    package func listen() {
        guard var log = try? AccessLog(mount: mount) else { return }
        var waiting = triggers()
        while !waiting.isEmpty, let accesses = try? log.next() {
            for access in accesses {
                for users in users(of: access) where waiting.contains(users) && !isRecorded() {
                    waiting.remove(users)
                    fetch(common(to: users))
                }
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
    private func users(of access: AccessLog.Access) -> [Set<Int>] {
        switch access {
        case .open(let inode): return readers[inode].map { [Set($0.keys)] } ?? []
        case .read(let inode, let offset, let count):
            guard let layout else { return users(reading: inode, Int(offset)) }
            let ends = readEnds[inode] ?? []
            readEnds[inode] = ends.suffix(Self.readEndsMax - 1) + [offset + count]
            guard let file = layout.file(in: inode, at: offset) else { return [] }
            // Nobody sees a file being opened, but nearly all are read from their beginning. What goes on where another
            // read ended is what the kernel reads on its own, and need not be wanted by anybody.
            let isOpened = Int(offset) == file.start && !ends.contains(offset)
            let opening = isOpened ? readers[file.inode].map { [Set($0.keys)] } ?? [] : []
            return opening + users(reading: file.inode, Int(offset) - file.start)
        }
    }

    /// The kernel reads more than was asked for: what one use alone read beside the others says little.
    private func users(reading inode: Int64, _ place: Int) -> [Set<Int>] {
        let users = readers[inode].map { Set($0.filter { $0.value.contains(place) }.keys) } ?? []
        return users.count > 1 ? [users] : []
    }

    /// Whether somebody writes down what is read: then nothing is read but what programs ask for.
    private func isRecorded() -> Bool {
        guard let file = try? Descriptor.open(ProfileRecorder.mark(mount), O_RDONLY) else { return false }
        return flock(file.number, LOCK_SH | LOCK_NB) != 0
    }

    /// What all these uses read and nothing has fetched yet, in the order in which one of them reads it.
    private func common(to users: Set<Int>) -> [Part] {
        guard let first = users.min() else { return [] }
        var result: [Part] = []
        for inode in uses[first] {
            guard let ranges = readers[inode], var shared = ranges[first] else { continue }
            for user in users { shared.formIntersection(ranges[user] ?? RangeSet()) }
            shared.subtract(fetched[inode] ?? RangeSet())
            fetched[inode, default: RangeSet()].formUnion(shared)
            if !shared.isEmpty { result.append(Part(inode: inode, ranges: shared)) }
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
    private func fetch(_ parts: [Part]) {
        var objects: [Piece] = []
        var wanted: [Piece] = []
        for part in parts {
            guard let (path, start) = place(of: part.inode) else { continue }
            for (block, offset) in (try? index.blocks(part.inode, part.ranges)) ?? []
            where blocks.insert(block).inserted {
                objects.append(Piece(path: path, range: start + offset..<start + offset + 1))
            }
            for range in part.ranges.ranges {
                let range = start + range.lowerBound..<start + range.upperBound
                // Small files that lie beside each other are read as one.
                if let last = wanted.last, last.path == path, last.touches(range) {
                    wanted[wanted.count - 1].range = last.range.lowerBound..<range.upperBound
                } else {
                    wanted.append(Piece(path: path, range: range))
                }
            }
        }
        work(objects, threads: Self.fetchers) { $0.fetch() }
        work(wanted.flatMap(\.cut), threads: Self.fillers) { $0.fill() }
    }

    /// The file that has its content, and where in that it begins.
    private func place(of inode: Int64) -> (path: String, start: Int)? {
        guard let layout else { return paths[inode].map { ("\(mount)/root\($0)", 0) } }
        return layout[inode].map { ("\(mount)/\(ContentLayout.name($0.part))", $0.start) }
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

    private static let bytesMax = 1 << 20
    /// What the kernel reads at once; more it leaves out.
    private static let requestBytes = 256 << 10

    /// Whether the kernel would read both as one.
    func touches(_ next: Range<Int>) -> Bool {
        let gap = next.lowerBound - range.upperBound
        return (0..<ErofsImage.blockBytes).contains(gap)
    }

    /// The same in pieces that several can read at once.
    var cut: [Piece] {
        stride(from: range.lowerBound, to: range.upperBound, by: Self.bytesMax).map {
            Piece(path: path, range: $0..<min($0 + Self.bytesMax, range.upperBound))
        }
    }

    private func open() -> Descriptor? { try? Descriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) }

    /// One byte brings the whole object into the cache.
    func fetch() {
        guard let file = open() else { return }
        posix_fadvise(file.number, 0, 0, POSIX_FADV_RANDOM)
        var byte: UInt8 = 0
        _ = pread(file.number, &byte, 1, off_t(range.lowerBound))
    }

    /// Returns when the kernel has it. Reading would follow the marks that the program's own reading left, and with them
    /// fetch what nobody uses: advice does not, nor does a mapping that is said to be used in leaps.
    func fill() {
        guard let file = open() else { return }
        // A mapping begins with a page.
        let range = range.lowerBound / ErofsImage.blockBytes * ErofsImage.blockBytes..<range.upperBound
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
