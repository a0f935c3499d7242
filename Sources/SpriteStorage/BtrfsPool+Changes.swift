// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Dispatch
import Glibc
import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

extension BtrfsPool {
    package func changes(
        base: BaseName, layer: String?, from: DiskSource, to: DiskSource, options: TreeDiffOptions
    ) async throws -> [TreeChange] {
        let watch = ComparisonWatch()
        return try await withTaskCancellationHandler {
            try await blocking { [self] in
                try poolOperation("compare") {
                    try compare(base: base, layer: layer, from: from, to: to, options: options, watch)
                }
            }
        } onCancel: {
            watch.cancel()
        }
    }

    package func hasChanged(_ sprite: SpriteID, since checkpoint: CheckpointID) async throws -> Bool {
        try await blocking { [self] in
            try poolOperation("look for changes") {
                let live = try openLive(sprite)
                let place = "\(checkpointsPath(sprite))/\(checkpoint)"
                guard let snapshot = try openDirectoryIfExists(place) else { return true }
                // Only what a commit has seen has its number.
                try flush(live)
                try Btrfs.commit(live)
                return try Btrfs.lastChange(live) > Btrfs.creation(snapshot)
            }
        }
    }

    package func adoptState(_ source: DiskSource, by sprite: SpriteID, as checkpoint: CheckpointID) async throws {
        try await blocking { [self] in
            try poolOperation("take over a state") {
                let original = try openSource(source)
                if case .live = source { try refuseNestedSubvolumes(original) }
                do {
                    let checkpoints = try openDirectory(checkpointsPath(sprite))
                    try snapshot(original, of: sprite, in: checkpoints, checkpoint.rawValue, readOnly: true)
                } catch let error as SystemError where error.number == EEXIST {
                    // Made before a crash; the ioctl makes all of it or nothing.
                }
            }
        }
    }

    // MARK: Comparing

    private func compare(
        base: BaseName, layer: String?, from: DiskSource, to: DiskSource, options: TreeDiffOptions,
        _ watch: ComparisonWatch
    ) throws -> [TreeChange] {
        try withState(from) { old in
            try withState(to) { new in
                let names = try touchedNames(old, new, watch)
                let older = try TreeState(view: Descriptor(owning: openView(old, base, middle: layer)), subvolume: old)
                let newer = try TreeState(view: Descriptor(owning: openView(new, base, middle: layer)), subvolume: new)
                var comparison = TreeComparison(older, newer, options: options, watch: watch)
                try comparison.run(try names.places(watch))
                var found = comparison.found
                if options.findsRenames { found = try RenamePairing.pair(found, &comparison, older, newer) }
                var changes = found.map(\.change)
                changes.sort { PlaceKey($0.path) < PlaceKey($1.path) }
                if options.makesPatches { try addPatches(to: &changes, older, newer) }
                return changes
            }
        }
    }

    /// A read-only subvolume that holds the state; of the live disk a snapshot for the time of `body`.
    private func withState<Value>(_ source: DiskSource, _ body: (Descriptor) throws -> Value) throws -> Value {
        guard case .live = source else { return try body(openSource(source)) }
        let live = try openSource(source)
        let folder = "\(path)/diffs"
        let name = "\(SpriteID.random())"
        let parent = try openDirectory(folder)
        let snapshot = try withPoolLock {
            try Btrfs.snapshot(live, in: parent, name, readOnly: true)
            let snapshot = try openDirectory("\(folder)/\(name)")
            // Whoever opens the pool deletes those that nobody holds.
            try lock(snapshot, folder, seconds: 1)
            return snapshot
        }
        defer {
            do {
                try Btrfs.delete(in: parent, name)
            } catch {
                logger.error("snapshot of a comparison not deleted", metadata: ["error": "\(error)"])
            }
        }
        return try body(snapshot)
    }

    /// Deletes snapshots whose comparison was interrupted by the end of its process.
    func cleanComparisons() throws {
        let folder = "\(path)/diffs"
        try makeDirectory(folder, mode: 0o700)
        let parent = try openDirectory(folder)
        for name in try directoryNames(folder) {
            guard let subvolume = try openDirectoryIfExists("\(folder)/\(name)"),
                flock(subvolume.number, LOCK_EX | LOCK_NB) == 0
            else { continue }
            try Btrfs.delete(in: parent, name)
        }
    }

    /// Has the kernel tell the two apart, and reads along.
    private func touchedNames(_ old: Descriptor, _ new: Descriptor, _ watch: ComparisonWatch) throws -> TouchedNames {
        var ends: [Int32] = [-1, -1]
        try checked(clinux_pipe(&ends, 1 << 20), "make a pipe")
        var reader: Descriptor? = Descriptor(owning: ends[0])
        let writer = ends[1]
        let parent = try Btrfs.identifier(old)
        let outcome = Mutex<Int32>(0)
        let sender = DispatchGroup()
        DispatchQueue.global().async(group: sender) {
            let result = clinux_btrfs_send(new.number, parent, writer)
            outcome.withLock { $0 = result }
            Glibc.close(writer)
        }
        var names = TouchedNames()
        let result = Result { try reader.map { try read($0, into: &names, watch) } }
        // Whatever went wrong here, the kernel stops at its next command: deep trees take it minutes. The daemon
        // ignores the signal that a pipe without a reader is.
        reader = nil
        sender.wait()
        // What the kernel could not do cut its stream short.
        let sent = outcome.withLock { $0 }
        if sent != -EPIPE { try checked(sent, "tell two snapshots apart") }
        try result.get()
        return names
    }

    private func read(_ reader: Descriptor, into names: inout TouchedNames, _ watch: ComparisonWatch) throws {
        var stream = SendStream()
        var isEnded = false
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 256 << 10)
        defer { buffer.deallocate() }
        while true {
            let count = try system("read the difference of two snapshots") {
                Int32(truncatingIfNeeded: Glibc.read(reader.number, buffer.baseAddress, buffer.count))
            }
            if count == 0 { break }
            stream.append(UnsafeBufferPointer(rebasing: buffer[..<Int(count)]))
            while let command = try stream.next() {
                isEnded = command == .end
                try watch.check()
                try names.apply(command)
            }
        }
        guard isEnded, !stream.hasRest else { throw SendStream.Malformed(description: "it has no end") }
    }

    // MARK: Patches

    private func addPatches(to changes: inout [TreeChange], _ older: TreeState, _ newer: TreeState) throws {
        var bytesLeft = Limits.patchBytesMax
        for index in changes.indices {
            let change = changes[index]
            guard change.before?.kind ?? .file == .file, change.after?.kind ?? .file == .file,
                change.kind == .added || change.kind == .removed || change.fields.contains(.content)
            else { continue }
            let size = max(change.before?.size ?? 0, change.after?.size ?? 0)
            guard size <= Limits.patchFileBytesMax, Int(size) <= bytesLeft else {
                changes[index].patchOmitted = "too_large"
                continue
            }
            bytesLeft -= Int(size)
            let oldPath = change.previousPath ?? change.path
            let old = change.before == nil ? [] : try content(oldPath, of: older)
            let new = change.after == nil ? [] : try content(change.path, of: newer)
            let name = { (prefix: String, path: [UInt8], isThere: Bool) in
                isThere ? prefix + String(decoding: path, as: UTF8.self) : "/dev/null"
            }
            let text = UnifiedDiff.text(
                old, new, oldName: name("a", oldPath, change.before != nil),
                newName: name("b", change.path, change.after != nil))
            changes[index].patch = text
            changes[index].patchOmitted = text == nil ? "binary" : nil
        }
    }

    private func content(_ path: [UInt8], of state: TreeState) throws -> [UInt8] {
        guard let file = try state.openFile(path) else { return [] }
        var bytes = [UInt8](repeating: 0, count: Limits.patchFileBytesMax)
        let count = pread(file.number, &bytes, bytes.count, 0)
        guard count >= 0 else { throw SystemError(errno, "read a file of a disk") }
        return Array(bytes[..<count])
    }
}
