// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import SpriteDomain

/// Standard input that clients gave and the command has not taken yet.
struct InputQueue {
    private var buffers: [ByteBuffer] = []
    private var first = 0
    private(set) var bytes = 0
    /// End after what is queued.
    private(set) var isEnding = false
    /// Nothing is taken any more; what comes is thrown away.
    private(set) var isClosed = false
    /// The event thread was told and has not looked yet.
    var isAnnounced = false
    var waiters: [ObjectIdentifier: Waiter<Void>] = [:]

    var isFull: Bool { !isClosed && bytes >= Limits.stdinQueueBytesMax }
    var accepts: Bool { !isClosed && !isEnding }

    /// Returns true if the event thread has to be told.
    mutating func append(_ buffer: ByteBuffer) -> Bool {
        guard accepts, buffer.readableBytes > 0 else { return false }
        buffers.append(buffer)
        bytes += buffer.readableBytes
        defer { isAnnounced = true }
        return !isAnnounced
    }

    mutating func end() -> Bool {
        guard accepts else { return false }
        isEnding = true
        defer { isAnnounced = true }
        return !isAnnounced
    }

    /// What is to be written next; the event thread says with ``consume(_:)`` how much of it was.
    var next: ByteBuffer? { first < buffers.count ? buffers[first] : nil }

    mutating func consume(_ count: Int) -> [Waiter<Void>] {
        guard first < buffers.count else { return [] }
        bytes -= count
        buffers[first].moveReaderIndex(forwardBy: count)
        if buffers[first].readableBytes == 0 {
            buffers[first] = ByteBuffer()
            first += 1
        }
        if first == buffers.count || first > 1024 {
            buffers.removeFirst(first)
            first = 0
        }
        return isFull ? [] : takeWaiters()
    }

    mutating func close() -> [Waiter<Void>] {
        isClosed = true
        buffers = []
        first = 0
        bytes = 0
        return takeWaiters()
    }

    private mutating func takeWaiters() -> [Waiter<Void>] {
        defer { waiters = [:] }
        return Array(waiters.values)
    }
}
