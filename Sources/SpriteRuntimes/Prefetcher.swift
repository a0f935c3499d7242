// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem
import Synchronization

/// Fetches what a use of a layer will read as soon as it has begun, many objects at once.
///
/// A program asks for one block after another, and from a store that is far away each takes its time. The layer's profile
/// says what was read when such a program ran before; its first file that no other use has tells which it is now.
///
/// Runs in a process of its own: who waits for a file of a mount cannot be ended before it is answered, and the daemon,
/// which holds the mount's descriptor, would then wait for itself.
package final class Prefetcher: Sendable {
    private struct Part: Hashable {
        var path: String
        var offset: off_t
    }

    private let mount: String
    /// For each use of the profile what to read so that every block of it has come.
    private let parts: [[Part]]
    private let triggers: [Int64: Int]

    /// How many files of a use tell it from others.
    private static let triggersMax = 3
    /// More at once fill the way to the store, not shorten it.
    private static let threads = 16

    /// - Parameters:
    ///   - mount: Where the file system is mounted, above the layer's root.
    /// - Returns: Nil if the profile has nothing that is in this layer.
    package init?(profile path: String, metadata: String, mount: String) throws {
        let profile = RuntimesProfile(text: try readSmallFile(path, bytesMax: 4 << 20))
        let index = try LayerIndex(metadata)
        var uses: [Int64: Int] = [:]
        var groups: [[(inode: Int64, file: RuntimesProfile.File)]] = []
        for group in profile.groups {
            var known: [(inode: Int64, file: RuntimesProfile.File)] = []
            for file in group {
                guard let inode = try index.inode(file.path) else { continue }
                known.append((inode, file))
                uses[inode, default: 0] += 1
            }
            groups.append(known)
        }
        var parts: [[Part]] = []
        var triggers: [Int64: Int] = [:]
        for (number, group) in groups.enumerated() {
            var seen: Set<LayerIndex.Block> = []
            var wanted: [Part] = []
            for (inode, file) in group {
                for block in file.blocks {
                    guard let place = try index.block(inode, block), seen.insert(place).inserted else { continue }
                    wanted.append(Part(path: file.path, offset: off_t(block * ObjectWriter.blockBytes)))
                }
            }
            parts.append(wanted)
            for (inode, _) in group.filter({ uses[$0.inode] == 1 }).prefix(Self.triggersMax) {
                triggers[inode] = number
            }
        }
        guard !triggers.isEmpty else { return nil }
        self.mount = mount
        self.parts = parts
        self.triggers = triggers
    }

    /// Returns when every use was fetched once, or JuiceFS ended.
    package func listen() {
        guard var log = try? AccessLog(mount: mount) else { return }
        let all = Set(triggers.values)
        var fetched: Set<Int> = []
        while fetched.count < all.count, let accesses = try? log.next() {
            for case .open(let inode) in accesses {
                if let use = triggers[inode], fetched.insert(use).inserted { fetch(parts[use]) }
            }
        }
    }

    /// Ends this process when the daemon, which holds the other end of its standard input, has closed that or is gone.
    package static func endWithDaemon() {
        startThread {
            var byte: UInt8 = 0
            while read(STDIN_FILENO, &byte, 1) > 0 {}
            _exit(0)
        }
    }

    private func fetch(_ parts: [Part]) {
        let queue = Queue(parts)
        for _ in 0..<min(Self.threads, parts.count) {
            startThread { [mount] in
                // One byte brings the whole block into the cache. What fails here fails again where it is wanted.
                while let part = queue.next() {
                    let path = "\(mount)/root\(part.path)"
                    guard let file = try? Descriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { continue }
                    posix_fadvise(file.number, 0, 0, POSIX_FADV_RANDOM)
                    var byte: UInt8 = 0
                    _ = pread(file.number, &byte, 1, part.offset)
                }
            }
        }
    }

    private final class Queue: Sendable {
        private let waiting: Mutex<[Part]>

        init(_ parts: [Part]) { waiting = Mutex(parts.reversed()) }

        func next() -> Part? { waiting.withLock { $0.popLast() } }
    }
}
