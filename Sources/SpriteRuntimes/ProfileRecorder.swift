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
    private let layout: ContentLayout?

    /// - Parameter runDirectory: Of the daemon that has the layer mounted.
    package init(_ id: RuntimesVersion, store: LayerStore, runDirectory: String) throws {
        let folder = "\(runDirectory)/runtimes/\(id)"
        guard let text = try? readSmallFile("\(folder)/process"), let process = ProcessMark(text: text) else {
            throw SpriteError(.unavailable, "cannot record \(id): no sprite has it mounted")
        }
        // The daemon's mounts are in a namespace of its own, in which JuiceFS is as well.
        mount = "/proc/\(process.processID)/root\(folder)/mount"
        files = try LayerIndex("\(store.path(id))/meta.db").files()
        layout = try ContentLayout(file: LayerNames.layoutPath(folder))
    }

    /// - Returns: The files that were read while `body` ran, and what of them, in the order of their first use.
    package func record(_ body: () async throws -> Void) async throws -> [RuntimesProfile.File] {
        let mount = mount
        let opened = try AccessLog(mount: mount)
        // Locked while this records, whatever ends it: see Prefetcher.
        let mark = try Descriptor.open(Self.mark(mount), O_RDWR | O_CREAT)
        try system("lock \(Self.mark(mount))") { flock(mark.number, LOCK_EX) }
        defer { withExtendedLifetime(mark) {} }
        // No byte more than was asked for: what lies behind it may belong to another file.
        if layout != nil { try LayerNames.setReadAhead(of: mount, kib: 0) }
        defer { if layout != nil { try? LayerNames.setReadAhead(of: mount) } }
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

    /// The file beside a mount that is locked while what is read of it is recorded.
    static func mark(_ mount: String) -> String { "\(mount)/../recorded" }

    private func uses(_ accesses: [AccessLog.Access]) -> [RuntimesProfile.File] {
        var order: [Int64] = []
        var ranges: [Int64: RangeSet<Int>] = [:]
        for access in accesses {
            let (inode, first, last) = place(of: access)
            guard let file = files[inode] else { continue }
            if ranges[inode] == nil {
                order.append(inode)
                ranges[inode] = RangeSet()
            }
            let end = min(last, file.size - 1)
            guard first >= 0, first <= end else { continue }
            let unit = RuntimesProfile.unitBytes
            ranges[inode]?.insert(contentsOf: Int(first) / unit * unit..<(Int(end) / unit + 1) * unit)
        }
        return order.compactMap { inode in
            guard let (path, size) = files[inode], let used = ranges[inode] else { return nil }
            if used.isEmpty || size <= ObjectWriter.smallBytesMax { return RuntimesProfile.File(path: path) }
            return RuntimesProfile.File(path: path, ranges: used)
        }
    }

    /// The file, and its first and last byte; of what was only opened none.
    private func place(of access: AccessLog.Access) -> (inode: Int64, first: Int64, last: Int64) {
        guard case .read(let inode, let offset, let count) = access else {
            if case .open(let inode) = access, layout == nil { return (inode, 0, -1) }
            return (-1, 0, -1)
        }
        guard let layout else { return (inode, offset, offset + count - 1) }
        guard let file = layout.file(in: inode, at: offset) else { return (-1, 0, -1) }
        let first = offset - Int64(file.start)
        return (file.inode, first, first + count - 1)
    }
}

private final class Ended: Sendable {
    let value = Atomic(false)
}
