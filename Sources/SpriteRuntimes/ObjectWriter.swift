// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// Turns the files of a layer into objects as JuiceFS reads them, named by their content.
///
/// JuiceFS keeps a file as slices, and a slice as blocks of at most 4 MiB, each an object. A slice may hold more than
/// one file: small files that lie beside each other share one, or 27,000 files would be as many requests. Where a
/// shared slice ends depends on the names in it and not on what came before, so that a change of one package changes
/// only the slices it lies in. What a profile says is used together shares slices as well, of large files only the
/// parts that are used: the rest of such a file is a slice of its own. The number of a slice is made from the SHA-256 of its content: the same content is
/// the same object in every version, on every host.
struct ObjectWriter {
    struct Slice: Hashable {
        var number: UInt64
        var size: Int
    }

    static let blockBytes = 4 << 20
    static let chunkBytes = 64 << 20
    /// Smaller files share slices, and are not cut.
    static let smallBytesMax = 128 << 10
    private static let sharedBytesMax = 1 << 20
    private static let sharedBytesMin = 192 << 10

    /// One slice to be: the whole of small files, or a piece of a large one.
    private struct Plan {
        var parts: [(file: Int, offset: Int, count: Int)]
        var size: Int
    }

    let tree: LayerTree
    let source: String
    /// Folder with `chunks` in it.
    let store: String
    let scratch: String
    let profile: RuntimesProfile

    /// - Parameter progress: Bytes and files that are done.
    /// - Returns: The slices that the tree's nodes refer to by index, and the objects' names.
    func run(progress: (UInt64, Int) -> Void) throws -> (slices: [Slice], objects: [String]) {
        let plans = plan()
        tree.settleLinks()
        var slices: [Slice] = []
        var objects: Set<String> = []
        var batch: [Plan] = []
        var (batchBytes, doneBytes, doneFiles) = (0, UInt64(0), 0)
        for (index, plan) in plans.enumerated() {
            batch.append(plan)
            batchBytes += plan.size
            guard batchBytes >= 192 << 20 || batch.count >= 1000 || index == plans.count - 1 else { continue }
            for (slice, keys) in try write(batch) {
                slices.append(slice)
                objects.formUnion(keys)
            }
            doneBytes += UInt64(batchBytes)
            doneFiles += batch.reduce(0) { $0 + $1.parts.count { $0.offset == 0 } }
            progress(doneBytes, doneFiles)
            batch = []
            batchBytes = 0
        }
        return (slices, objects.sorted())
    }

    // MARK: Planning

    private func plan() -> [Plan] {
        var plans: [Plan] = []
        var shared = Plan(parts: [], size: 0)
        func add(_ file: Int, _ range: Range<Int>, to plan: inout Plan) {
            plan.parts.append((file, range.lowerBound, range.count))
            plan.size += range.count
        }
        func close(_ plan: inout Plan) {
            guard !plan.parts.isEmpty else { return }
            var start = 0
            for part in plan.parts {
                tree.files[part.file].node.pieces.append(
                    LayerTree.Piece(slice: plans.count, start: start, offset: part.offset, count: part.count))
                start += part.count
            }
            plans.append(plan)
            plan = Plan(parts: [], size: 0)
        }
        // What is used together lies together: one request brings all of it, and nothing else.
        var used: [Int: RangeSet<Int>] = [:]
        for group in usedRanges() {
            for (file, wanted) in group {
                let new = wanted.subtracting(used[file] ?? RangeSet())
                used[file, default: RangeSet()].formUnion(new)
                for range in new.ranges {
                    if range.count <= Self.smallBytesMax, shared.size + range.count > Self.blockBytes { close(&shared) }
                    var rest = range
                    while !rest.isEmpty {
                        let room = Self.blockBytes - shared.size
                        let chunkEnd = (rest.lowerBound / Self.chunkBytes + 1) * Self.chunkBytes
                        let end = min(rest.upperBound, rest.lowerBound + room, chunkEnd)
                        add(file, rest.lowerBound..<end, to: &shared)
                        rest = end..<rest.upperBound
                        if shared.size == Self.blockBytes { close(&shared) }
                    }
                }
            }
            close(&shared)
        }
        for (index, file) in tree.files.enumerated() {
            let size = Int(file.node.facts.st_size)
            if size > Self.smallBytesMax {
                for offset in stride(from: 0, to: size, by: Self.chunkBytes) {
                    var own = Plan(parts: [], size: 0)
                    let chunk = RangeSet(offset..<min(offset + Self.chunkBytes, size))
                    for range in chunk.subtracting(used[index] ?? RangeSet()).ranges { add(index, range, to: &own) }
                    close(&own)
                }
            } else if used[index] == nil {
                add(index, 0..<size, to: &shared)
                let isCut = shared.size >= Self.sharedBytesMin && hash(file.path) & 15 == 0
                if isCut || shared.size >= Self.sharedBytesMax { close(&shared) }
            }
        }
        close(&shared)
        for file in tree.files { file.node.pieces.sort { $0.offset < $1.offset } }
        return plans
    }

    /// What each use of the profile reads of which file of this layer; of a small file all.
    private func usedRanges() -> [[(file: Int, ranges: RangeSet<Int>)]] {
        guard !profile.isEmpty else { return [] }
        var byPath: [String: Int] = [:]
        for (index, file) in tree.files.enumerated() { byPath[file.path] = index }
        return profile.groups.map { group in
            group.compactMap { use in
                guard let file = byPath[use.path] else { return nil }
                let size = Int(tree.files[file].node.facts.st_size)
                let whole = RangeSet(0..<size)
                return (file, size <= Self.smallBytesMax ? whole : use.ranges.intersection(whole))
            }
        }
    }

    private func hash(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash ^ (hash >> 29)
    }

    // MARK: Writing

    private func write(_ batch: [Plan]) throws -> [(Slice, [String])] {
        let folder = "\(scratch)/batch"
        try makeFolder(folder)
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        for (index, plan) in batch.enumerated() {
            let output = try Descriptor.open("\(folder)/\(index)", O_WRONLY | O_CREAT | O_EXCL)
            for part in plan.parts { try copy(part, to: output, &buffer) }
        }
        let list = batch.indices.map { "\($0)\0" }.joined()
        let sums = try withList(list, folder) {
            try runTool("xargs", ["-0", "-a", $0, "sha256sum", "--"], directory: folder).standardOutput
        }.split(separator: "\n")
        guard sums.count == batch.count else { throw SystemError(EIO, "checksum the slices") }
        var result: [(Slice, [String])] = []
        var missing: [(file: String, key: String)] = []
        var seen: Set<String> = []
        for (index, plan) in batch.enumerated() {
            // 62 bits: JuiceFS counts in signed 64-bit numbers. Two contents of one number are refused below.
            guard let number = UInt64(sums[index].prefix(16), radix: 16).map({ $0 >> 2 }) else {
                throw SystemError(EIO, "checksum the slices")
            }
            var keys: [String] = []
            let blocks = (plan.size + Self.blockBytes - 1) / Self.blockBytes
            for block in 0..<blocks {
                let size = min(Self.blockBytes, plan.size - block * Self.blockBytes)
                let key = "chunks/\(number / 1_000_000)/\(number / 1000)/\(number)_\(block)_\(size)"
                keys.append(key)
                guard access("\(store)/\(key)", F_OK) != 0, seen.insert(key).inserted else { continue }
                var file = "\(index)"
                if blocks > 1 {
                    file = "\(index)-\(block)"
                    let input = try Descriptor.open("\(folder)/\(index)", O_RDONLY)
                    let output = try Descriptor.open("\(folder)/\(file)", O_WRONLY | O_CREAT | O_EXCL)
                    try copyBytes(input, block * Self.blockBytes, size, output, &buffer)
                }
                missing.append((file, key))
            }
            result.append((Slice(number: number, size: plan.size), keys))
        }
        try compress(missing, folder)
        try runTool("rm", ["-rf", "--", folder])
        return result
    }

    private func compress(_ missing: [(file: String, key: String)], _ folder: String) throws {
        guard !missing.isEmpty else { return }
        let list = missing.map { "\($0.file)\0" }.joined()
        // Sixteen files a process keep both processors busy to the end.
        let options = ["-0", "-P", "\(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))", "-n", "16"]
        _ = try withList(list, folder) {
            try runTool(
                "xargs", ["-a", $0] + options + ["zstd", "-q", "-f", "-6", "--check", "--no-progress", "--"],
                directory: folder)
        }
        for (file, key) in missing {
            let path = "\(store)/\(key)"
            let parts = key.split(separator: "/").dropLast().map(String.init)
            var parent = store
            for part in parts {
                parent += "/\(part)"
                if mkdir(parent, 0o700) != 0, errno != EEXIST { throw SystemError(errno, "make \(parent)") }
            }
            try system("install object \(key)") { rename("\(folder)/\(file).zst", path) }
        }
    }

    private func withList<Value>(_ list: String, _ folder: String, _ body: (String) throws -> Value) throws -> Value {
        let path = "\(folder)/list"
        unlink(path)
        let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL)
        var list = list
        let count = list.withUTF8 { Glibc.write(file.number, $0.baseAddress, $0.count) }
        guard count == list.utf8.count else { throw SystemError(EIO, "write \(path)") }
        return try body(path)
    }

    private func copy(
        _ part: (file: Int, offset: Int, count: Int), to output: Descriptor, _ buffer: inout [UInt8]
    ) throws {
        let file = tree.files[part.file]
        let input = try Descriptor.open(source + file.path, O_RDONLY | O_NOFOLLOW)
        try copyBytes(input, part.offset, part.count, output, &buffer)
    }

    private func copyBytes(
        _ input: Descriptor, _ offset: Int, _ count: Int, _ output: Descriptor, _ buffer: inout [UInt8]
    ) throws {
        var done = 0
        while done < count {
            let taken = pread(input.number, &buffer, min(buffer.count, count - done), off_t(offset + done))
            if taken < 0, errno == EINTR { continue }
            guard taken > 0 else { throw SystemError(taken < 0 ? errno : EIO, "read a file of the layer") }
            let put = Glibc.write(output.number, buffer, taken)
            guard put == taken else { throw SystemError(put < 0 ? errno : EIO, "write a slice") }
            done += taken
        }
    }
}
