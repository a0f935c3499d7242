// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// What was done to one name.
struct Touch {
    /// The name is new, gone or moved, or carries other attributes, which may be those of the overlay.
    var isStructural = false
    /// Content was written.
    var hasContent = false
    /// Where; nil means anywhere.
    var ranges: [Range<UInt64>]?
    /// Something lay here that was moved away, or came here from another place.
    var isMoved = false

    mutating func merge(_ other: Touch) {
        isStructural = isStructural || other.isStructural
        isMoved = isMoved || other.isMoved
        if other.hasContent {
            if hasContent, let mine = ranges, let others = other.ranges {
                ranges = mine + others
            } else {
                ranges = hasContent ? nil : other.ranges
            }
            hasContent = true
        }
    }
}

/// Follows the names of a stream from the older state to the newer one.
///
/// A command names things where they are at that moment, while directories are moved about; only at the end can be
/// told where each was at the beginning and is now. Names that no command mentions are not kept.
struct TouchedNames {
    private final class Node {
        var name: [UInt8]
        weak var parent: Node?
        var children: [[UInt8]: Node] = [:]
        /// Where it was in the older state; nil for what is new.
        var origin: [UInt8]?
        var touch: Touch?
        var isGone = false

        init(_ name: [UInt8], parent: Node?, origin: [UInt8]?) {
            self.name = name
            self.parent = parent
            self.origin = origin
        }
    }

    private static let rangesMax = 64

    private let root = Node([], parent: nil, origin: [])
    /// Every node but the root, in the order they were met; keeps them alive.
    private var nodes: [Node] = []
    /// Most commands are about the same directory as the one before; looking up a deep one takes long.
    private var lastDirectory: (path: [UInt8], node: Node)?

    mutating func apply(_ command: SendCommand) throws {
        switch command {
        case .create(let path):
            let node = try place(path)
            mark(node) { $0.isStructural = true }
        case .rename(let from, let to):
            forget(from)
            forget(to)
            let node = try find(from)
            mark(node) {
                $0.isStructural = true
                $0.isMoved = true
            }
            node.parent?.children[node.name] = nil
            let (parent, name) = try parent(of: to)
            if let covered = parent.children[name] { drop(covered) }
            node.name = name
            node.parent = parent
            parent.children[name] = node
        case .link(let new, let old):
            mark(try find(old)) { $0.isStructural = true }
            let node = try place(new)
            mark(node) { $0.isStructural = true }
        case .remove(let path):
            forget(path)
            drop(try find(path))
        case .attributes(let path):
            mark(try find(path)) { $0.isStructural = true }
        case .content(let path, let range):
            mark(try find(path)) { touch in
                let before = touch.hasContent ? touch.ranges : []
                touch.hasContent = true
                guard let range, let before, before.count < Self.rangesMax else { return touch.ranges = nil }
                if let last = before.last, last.upperBound == range.lowerBound {
                    touch.ranges = before.dropLast() + [last.lowerBound..<range.upperBound]
                } else {
                    touch.ranges = before + [range]
                }
            }
        case .end:
            break
        }
    }

    /// Every place, of the older or the newer state, at which something may differ.
    func places(_ watch: ComparisonWatch) throws -> [[UInt8]: Touch] {
        var result: [[UInt8]: Touch] = [:]
        for node in nodes {
            try watch.check()
            guard var touch = node.touch else { continue }
            let now = path(of: node)
            touch.isMoved = touch.isMoved && node.origin != nil && now != node.origin
            for place in Set([now, node.origin].compactMap { $0 }) { result[place, default: Touch()].merge(touch) }
        }
        return result
    }

    private func path(of node: Node) -> [UInt8]? {
        var parts: [[UInt8]] = []
        var current = node
        while current !== root {
            guard !current.isGone, let parent = current.parent else { return nil }
            parts.append(current.name)
            current = parent
        }
        var path: [UInt8] = []
        for part in parts.reversed() {
            if !path.isEmpty { path.append(0x2F) }
            path.append(contentsOf: part)
        }
        return path
    }

    private func mark(_ node: Node, _ change: (inout Touch) -> Void) {
        var touch = node.touch ?? Touch()
        change(&touch)
        node.touch = touch
    }

    private func drop(_ node: Node) {
        mark(node) { $0.isStructural = true }
        node.isGone = true
        node.parent?.children[node.name] = nil
    }

    private mutating func child(_ name: [UInt8], of parent: Node, isNew: Bool) throws -> Node {
        guard nodes.count < Limits.diffNamesMax else {
            throw SpriteError(
                .tooLarge,
                "cannot compare: more than \(Limits.diffNamesMax) names were changed; compare states closer together")
        }
        let origin = isNew ? nil : parent.origin.map { $0.isEmpty ? name : $0 + [0x2F] + name }
        let node = Node(name, parent: parent, origin: origin)
        parent.children[name] = node
        nodes.append(node)
        return node
    }

    private mutating func find(_ path: [UInt8]) throws -> Node {
        let (parent, name) = try parent(of: path)
        return try parent.children[name] ?? child(name, of: parent, isNew: false)
    }

    private mutating func parent(of path: [UInt8]) throws -> (Node, [UInt8]) {
        guard let slash = path.lastIndex(of: 0x2F) else { return (root, path) }
        return (try directory(path[..<slash]), Array(path[(slash + 1)...]))
    }

    private mutating func directory(_ path: ArraySlice<UInt8>) throws -> Node {
        var node = root
        var rest = path
        if let last = lastDirectory, path.starts(with: last.path) {
            rest = path.dropFirst(last.path.count)
            if rest.isEmpty { return last.node }
            if rest.first == 0x2F { node = last.node } else { rest = path }
        }
        for part in rest.split(separator: 0x2F) {
            let name = Array(part)
            node = try node.children[name] ?? child(name, of: node, isNew: false)
        }
        lastDirectory = (Array(path), node)
        return node
    }

    /// A name is about to stand for something else.
    private mutating func forget(_ path: [UInt8]) {
        if let last = lastDirectory, last.path == path || last.path.starts(with: path + [0x2F]) { lastDirectory = nil }
    }

    /// The node of something new, in place of whatever had the name.
    private mutating func place(_ path: [UInt8]) throws -> Node {
        forget(path)
        let (parent, name) = try parent(of: path)
        if let covered = parent.children[name] { drop(covered) }
        return try child(name, of: parent, isNew: true)
    }
}
