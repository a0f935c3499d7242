// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteAgentWire
import SpriteSystem

/// The connection of the daemon; it is trusted, since the way to the listening socket is not visible inside.
final class Connection {
    let socket: Descriptor
    private var decoder = FrameDecoder(bodyBytesMax: AgentRequest.bodyBytesMax)
    private var received: [Descriptor] = []
    private var outgoing: [(bytes: [UInt8], sent: Int, descriptors: [Descriptor])] = []
    private var outgoingBytes = 0
    /// A daemon that does not read for this long is not there any more; it collects everything when it comes back.
    private static let outgoingBytesMax = 4 << 20

    /// False once nothing more can be sent or received.
    private(set) var isOpen = true
    var hasOutgoing: Bool { !outgoing.isEmpty }

    init(socket: Descriptor) { self.socket = socket }

    func send(_ event: AgentEvent, _ descriptors: [Descriptor] = []) {
        let bytes = event.frame(descriptorCount: descriptors.count).encoded()
        outgoing.append((bytes, 0, descriptors))
        outgoingBytes += bytes.count
        if outgoingBytes > Connection.outgoingBytesMax { isOpen = false }
        flush()
    }

    func flush() {
        while isOpen, !outgoing.isEmpty {
            let next = outgoing[0]
            let numbers = next.sent == 0 ? next.descriptors.map(\.number) : []
            let count = next.bytes[next.sent...].withUnsafeBytes {
                clinux_send(socket.number, $0.baseAddress, $0.count, numbers, Int32(numbers.count))
            }
            if count == -Int(EAGAIN) || count == -Int(ETOOMANYREFS) || count == -Int(ENOMEM) { return }
            guard count > 0 else {
                isOpen = false
                return
            }
            outgoingBytes -= count
            outgoing[0].sent += count
            outgoing[0].descriptors = []
            if outgoing[0].sent == next.bytes.count { outgoing.removeFirst() }
        }
    }

    /// Takes in what has come and hands out whole requests.
    func receive(_ handle: (AgentRequest, [Descriptor]) -> Void) {
        var numbers = [Int32](repeating: -1, count: Int(CLINUX_RECEIVED_MAX))
        while isOpen {
            var numberCount: Int32 = 0
            let count = withUnsafeTemporaryAllocation(byteCount: 32 << 10, alignment: 8) { buffer in
                let count = clinux_receive(socket.number, buffer.baseAddress, buffer.count, &numbers, &numberCount)
                if count > 0 { decoder.append(buffer[..<count]) }
                return count
            }
            for number in numbers.prefix(Int(numberCount)) { received.append(Descriptor(owning: number)) }
            if count == -Int(EAGAIN) { return }
            guard count > 0 else {
                isOpen = false
                return
            }
            do {
                while let frame = try decoder.next() {
                    let wanted = Int(frame.descriptorCount)
                    guard wanted <= received.count else { throw WireError.missingDescriptors }
                    let request = try AgentRequest(frame)
                    let descriptors = Array(received.prefix(wanted))
                    received.removeFirst(wanted)
                    handle(request, descriptors)
                }
            } catch {
                isOpen = false
            }
        }
    }
}
