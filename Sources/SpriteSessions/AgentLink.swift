// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteDomain
import SpriteSystem

/// The connection to one sprite's PID 1. On the event thread; everything that comes from it may be hostile.
final class AgentLink {
    /// Descriptors that came before their message did.
    private static let waitingDescriptorsMax = 64
    /// Requests PID 1 has not taken; a few of the largest.
    private static let outgoingBytesMax = 32 << 20
    private static let readsPerTurn = 8

    private let loop: EventLoop
    private let socket: Descriptor
    private var watch: EventLoop.Watch?
    private var decoder = FrameDecoder(bodyBytesMax: Limits.agentMessageBytesMax)
    private var received: [Descriptor] = []
    private var outgoing: [(bytes: [UInt8], sent: Int, descriptors: [Descriptor])] = []
    private var outgoingBytes = 0
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)
    private var wantsWrite = false

    /// What it throws closes the connection.
    var onEvent: (AgentEvent, [Descriptor]) throws -> Void = { _, _ in }
    /// Called once, with the reason.
    var onClose: (any Error) -> Void = { _ in }

    init(loop: EventLoop, socket: Descriptor) {
        self.loop = loop
        self.socket = socket
    }

    func start() throws {
        watch = try loop.watch(socket.number, EventLoop.readable) { [weak self] in self?.ready($0) }
    }

    func send(_ request: AgentRequest, _ descriptors: [Descriptor] = []) {
        guard watch != nil else { return }
        let bytes = request.frame(descriptorCount: descriptors.count).encoded()
        outgoing.append((bytes, 0, descriptors))
        outgoingBytes += bytes.count
        guard outgoingBytes <= AgentLink.outgoingBytesMax else {
            return close(SystemError(ENOBUFS, "send to PID 1, which does not read"))
        }
        flush()
    }

    /// Without a call of `onClose`.
    func close() {
        onClose = { _ in }
        close(CancellationError())
    }

    private func close(_ reason: any Error) {
        guard let watch else { return }
        loop.unwatch(watch)
        self.watch = nil
        outgoing = []
        received = []
        onClose(reason)
    }

    private func ready(_ events: UInt32) {
        if events & EventLoop.writable != 0 { flush() }
        // A closed connection may still hold what was sent before.
        if events & ~EventLoop.writable != 0 { receive() }
    }

    private func flush() {
        while watch != nil, !outgoing.isEmpty {
            let next = outgoing[0]
            let numbers = next.sent == 0 ? next.descriptors.map(\.number) : []
            let count = next.bytes[next.sent...].withUnsafeBytes {
                clinux_send(socket.number, $0.baseAddress, $0.count, numbers, Int32(numbers.count))
            }
            if count == -Int(EAGAIN) { break }
            guard count > 0 else { return close(SystemError(Int32(-count), "send to PID 1")) }
            outgoingBytes -= count
            outgoing[0].sent += count
            outgoing[0].descriptors = []
            if outgoing[0].sent == next.bytes.count { outgoing.removeFirst() }
        }
        guard let watch, wantsWrite != !outgoing.isEmpty else { return }
        wantsWrite = !outgoing.isEmpty
        loop.change(watch, EventLoop.readable | (wantsWrite ? EventLoop.writable : 0))
    }

    private func receive() {
        var numbers = [Int32](repeating: -1, count: Int(CLINUX_RECEIVED_MAX))
        for _ in 0..<AgentLink.readsPerTurn where watch != nil {
            var numberCount: Int32 = 0
            let count = clinux_receive(socket.number, &buffer, buffer.count, &numbers, &numberCount)
            for number in numbers.prefix(Int(numberCount)) { received.append(Descriptor(received: number)) }
            if count == -Int(EAGAIN) { return }
            guard count > 0 else {
                return close(SystemError(count < 0 ? Int32(-count) : ECONNRESET, "receive from PID 1"))
            }
            decoder.append(buffer[..<count])
            do {
                try takeFrames()
            } catch {
                return close(error)
            }
            // A short read has emptied the socket; another one would only say so.
            if count < buffer.count, numberCount == 0 { return }
        }
    }

    private func takeFrames() throws {
        while watch != nil, let frame = try decoder.next() {
            let wanted = Int(frame.descriptorCount)
            guard wanted <= received.count else { throw WireError.missingDescriptors }
            let event = try AgentEvent(frame)
            let descriptors = Array(received.prefix(wanted))
            received.removeFirst(wanted)
            try onEvent(event, descriptors)
        }
        guard received.count <= AgentLink.waitingDescriptorsMax else {
            throw WireError.tooLong(received.count, limit: AgentLink.waitingDescriptorsMax)
        }
    }
}
