// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem
import Synchronization

/// Fetches what a use of a layer will read as soon as it has begun, many objects at once.
///
/// A program asks for one block after another, and from a store that is far away each takes its time. The layer's profile
/// says what was read when such a program ran before. Whenever a file is opened, what all uses that read this file have in
/// common is read ahead: little for one that many uses read, all of a use for one that no other has.
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

    /// More at once fill the way to the store, not shorten it.
    private static let threads = 16

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
                readers[inode, default: [:]][uses.count, default: RangeSet()].formUnion(file.ranges)
            }
            uses.append(files)
        }
        guard !readers.isEmpty else { return nil }
        (self.mount, self.index, self.uses) = (mount, index, uses)
    }

    /// Returns when everything was fetched once, or JuiceFS ended.
    package func listen() {
        guard var log = try? AccessLog(mount: mount) else { return }
        var waiting = Set(readers.values.map { Set($0.keys) })
        while !waiting.isEmpty, let accesses = try? log.next() {
            for case .open(let inode) in accesses {
                guard let users = readers[inode].map({ Set($0.keys) }), waiting.contains(users), !isRecorded() else {
                    continue
                }
                waiting.remove(users)
                fetch(common(to: users))
            }
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

    private func fetch(_ parts: [(inode: Int64, part: Part)]) {
        var wanted: [Place] = []
        for (inode, part) in parts {
            for (block, offset) in (try? index.blocks(inode, part.ranges)) ?? [] where blocks.insert(block).inserted {
                wanted.append(Place(path: part.path, offset: off_t(offset)))
            }
        }
        let queue = Queue(wanted)
        for _ in 0..<min(Self.threads, wanted.count) {
            startThread { [mount] in
                // One byte brings the whole block into the cache. What fails here fails again where it is wanted.
                while let place = queue.next() {
                    let path = "\(mount)/root\(place.path)"
                    guard let file = try? Descriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { continue }
                    posix_fadvise(file.number, 0, 0, POSIX_FADV_RANDOM)
                    var byte: UInt8 = 0
                    _ = pread(file.number, &byte, 1, place.offset)
                }
            }
        }
    }

    private struct Place: Sendable {
        var path: String
        var offset: off_t
    }

    private final class Queue: Sendable {
        private let waiting: Mutex<[Place]>

        init(_ places: [Place]) { waiting = Mutex(places.reversed()) }

        func next() -> Place? { waiting.withLock { $0.popLast() } }
    }
}
