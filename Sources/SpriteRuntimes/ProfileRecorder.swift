// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem
import Synchronization

/// Records what of a mounted layer a command reads.
package struct ProfileRecorder: Sendable {
    private let mount: String
    private let files: [Int64: (path: String, size: Int64)]

    /// - Parameter runDirectory: Of the daemon that has the layer mounted.
    package init(_ id: RuntimesVersion, store: LayerStore, runDirectory: String) throws {
        let folder = "\(runDirectory)/runtimes/\(id)"
        guard let text = try? readSmallFile("\(folder)/process"), let process = ProcessMark(text: text) else {
            throw SpriteError(.unavailable, "cannot record \(id): no sprite has it mounted")
        }
        // The daemon's mounts are in a namespace of its own, in which JuiceFS is as well.
        mount = "/proc/\(process.processID)/root\(folder)/mount"
        files = try LayerIndex("\(store.path(id))/meta.db").files()
    }

    /// - Returns: The files that were read while `body` ran, with their blocks, in the order of their first use.
    package func record(_ body: () async throws -> Void) async throws -> [RuntimesProfile.File] {
        let mount = mount
        let opened = try AccessLog(mount: mount)
        // What the kernel keeps of files is read without anybody's knowing.
        try writeSmallFile("/proc/sys/vm/drop_caches", "1\n", flags: O_WRONLY)
        let ended = Ended()
        async let heard = blocking { () throws -> [AccessLog.Access] in
            var (log, result) = (opened, [AccessLog.Access]())
            while true {
                let isLast = ended.value.load(ordering: .acquiring)
                let more = try log.next()
                result += more
                if isLast, more.isEmpty { return result }
            }
        }
        do {
            try await body()
        } catch {
            ended.value.store(true, ordering: .releasing)
            throw error
        }
        ended.value.store(true, ordering: .releasing)
        return uses(try await heard)
    }

    private func uses(_ accesses: [AccessLog.Access]) -> [RuntimesProfile.File] {
        var order: [Int64] = []
        var blocks: [Int64: Set<Int>] = [:]
        for access in accesses {
            let (inode, first, last): (Int64, Int64, Int64) =
                switch access {
                case .open(let inode): (inode, 0, -1)
                case .read(let inode, let offset, let count): (inode, offset, offset + count - 1)
                }
            guard let file = files[inode] else { continue }
            if blocks[inode] == nil {
                order.append(inode)
                blocks[inode] = []
            }
            let end = min(last, file.size - 1)
            guard first >= 0, first <= end else { continue }
            let size = Int64(ObjectWriter.blockBytes)
            blocks[inode]?.formUnion(Int(first / size)...Int(end / size))
        }
        return order.compactMap { inode in
            guard let path = files[inode]?.path, let used = blocks[inode] else { return nil }
            return RuntimesProfile.File(path: path, blocks: used.isEmpty ? [0] : used.sorted())
        }
    }
}

private final class Ended: Sendable {
    let value = Atomic(false)
}
