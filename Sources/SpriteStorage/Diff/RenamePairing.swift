// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import SpriteDomain

/// Finds what was only renamed among what is gone and what is new.
///
/// Two names stand for one thing if they have the same inode, made at the same time; or if the one is the other's
/// copy, which the overlay made when a file of the base was first changed, and noted where it came from.
struct RenamePairing {
    private struct Key: Hashable {
        var inode: UInt64
        var born: Int64
        var kind: TreeEntryKind
    }

    private struct Origin: Hashable {
        /// Without its upper bits, in which an overlay over several filesystems marks the one it means.
        var inode: UInt64
        var kind: TreeEntryKind
    }

    static func pair(
        _ found: [TreeComparison.Found], _ comparison: inout TreeComparison, _ older: TreeState, _ newer: TreeState
    ) throws -> [TreeComparison.Found] {
        var gone: [Key: [Int]] = [:]
        for (index, one) in found.enumerated() {
            guard one.change.kind == .removed, let entry = one.before, entry.born != 0 else { continue }
            let key = Key(inode: entry.inode, born: entry.born, kind: TreeEntry(entry).kind)
            gone[key, default: []].append(index)
        }
        guard !gone.isEmpty, found.contains(where: { $0.change.kind == .added }) else { return found }
        var pairs: [Int: Int] = [:]
        var unpaired: [Int] = []
        for (index, one) in found.enumerated() {
            guard one.change.kind == .added, let entry = one.after else { continue }
            let key = Key(inode: entry.inode, born: entry.born, kind: TreeEntry(entry).kind)
            if entry.born != 0, let match = gone[key]?.first {
                gone[key]?.removeFirst()
                pairs[index] = match
            } else {
                unpaired.append(index)
            }
        }
        pairByOrigin(found, unpaired, gone, &pairs, older, newer)
        return try merged(found, pairs, &comparison)
    }

    private static func pairByOrigin(
        _ found: [TreeComparison.Found], _ added: [Int], _ gone: [Key: [Int]], _ pairs: inout [Int: Int],
        _ older: TreeState, _ newer: TreeState
    ) {
        var byOrigin: [Origin: Int] = [:]
        for (key, indexes) in gone {
            for index in indexes {
                // Of the base, or copied from it.
                let inode = older.originInode(found[index].change.path) ?? key.inode
                byOrigin[Origin(inode: inode << 8, kind: key.kind)] = index
            }
        }
        guard !byOrigin.isEmpty else { return }
        for index in added {
            guard let entry = found[index].after else { continue }
            let inode = newer.originInode(found[index].change.path) ?? entry.inode
            let key = Origin(inode: inode << 8, kind: TreeEntry(entry).kind)
            if let match = byOrigin.removeValue(forKey: key) { pairs[index] = match }
        }
    }

    private static func merged(
        _ found: [TreeComparison.Found], _ pairs: [Int: Int], _ comparison: inout TreeComparison
    ) throws -> [TreeComparison.Found] {
        let paired = Set(pairs.values)
        var moves: [[UInt8]: [UInt8]] = [:]
        for (new, old) in pairs { moves[found[new].change.path] = found[old].change.path }
        var result: [TreeComparison.Found] = []
        for (index, one) in found.enumerated() where !paired.contains(index) {
            guard let old = pairs[index], let before = found[old].before, let after = one.after else {
                result.append(one)
                continue
            }
            let oldPath = found[old].change.path
            let newPath = one.change.path
            let fields = try comparison.fields(oldPath, before, newPath, after)
            if fields.isEmpty, isImplied(newPath, oldPath, moves) { continue }
            let change = TreeChange(
                .renamed, newPath, previousPath: oldPath, fields: fields, before: TreeEntry(before),
                after: TreeEntry(after))
            result.append(.init(change: change, before: before, after: after))
        }
        return result
    }

    /// Whether it moved only because the directory it lies in did.
    private static func isImplied(_ new: [UInt8], _ old: [UInt8], _ moves: [[UInt8]: [UInt8]]) -> Bool {
        guard let newSlash = new.lastIndex(of: 0x2F), let oldSlash = old.lastIndex(of: 0x2F),
            new[newSlash...] == old[oldSlash...]
        else { return false }
        return moves[Array(new[..<newSlash])] == Array(old[..<oldSlash])
    }
}
