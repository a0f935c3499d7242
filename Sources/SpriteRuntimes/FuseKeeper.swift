// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem
import Synchronization

/// Holds the descriptor that the kernel sends the requests of one mounted layer to.
///
/// As long as somebody holds it the mount lives, with or without a server: requests wait. JuiceFS gives a copy to the
/// socket named by `JFS_SUPER_COMM` and asks there for one when it starts, so a new JuiceFS goes on where a killed one
/// stopped. A new daemon gets its copy from the JuiceFS that went on meanwhile.
///
/// A message is the kernel's first request, which is sent only once, with the descriptor attached.
final class FuseKeeper: Sendable {
    private struct Held {
        var descriptor: Descriptor?
        var setting: [UInt8] = Array("FUSE".utf8)
    }

    private let held = Mutex(Held())
    private let listener: Descriptor
    private let path: String

    init(path: String) throws {
        self.path = path
        listener = Descriptor(owning: try checked(clinux_root_listen(path), "listen at \(path)"))
        // Ends when the listener is shut down; it serves a process of ours that asks a few times in its life.
        startThread { [weak self, listener] in
            while true {
                let number = clinux_root_accept(listener.number)
                guard number >= 0, let self else { return }
                self.serve(Descriptor(owning: number))
            }
        }
    }

    deinit { end() }

    /// Lets the descriptor go; the mount dies unless JuiceFS still has it.
    func end() {
        shutdown(listener.number, Int32(SHUT_RDWR))
        unlink(path)
        held.withLock { $0.descriptor = nil }
    }

    var descriptor: Descriptor? { held.withLock { $0.descriptor } }

    private func serve(_ socket: Descriptor) {
        let (descriptor, setting) = held.withLock { ($0.descriptor, $0.setting) }
        // The first descriptor means nothing; a message needs one.
        var numbers = [socket.number]
        if let descriptor { numbers.append(descriptor.number) }
        guard clinux_send(socket.number, setting, setting.count, numbers, Int32(numbers.count)) > 0,
            let (message, descriptors) = receive(socket)
        else { return }
        guard descriptors.count == 1, message.count > 16, message != Array("CLOSE".utf8) else { return }
        held.withLock { held in
            guard held.descriptor == nil else { return }
            held = Held(descriptor: descriptors[0], setting: message)
        }
    }

    private func receive(_ socket: Descriptor) -> ([UInt8], [Descriptor])? {
        var bytes = [UInt8](repeating: 0, count: 1024)
        var numbers = [Int32](repeating: -1, count: Int(CLINUX_RECEIVED_MAX))
        var count = Int32(numbers.count)
        let length = clinux_receive(socket.number, &bytes, bytes.count, &numbers, &count)
        guard length > 0 else { return nil }
        return (Array(bytes.prefix(length)), numbers.prefix(Int(count)).map { Descriptor(owning: $0) })
    }

    /// Takes a copy from a JuiceFS that outlived the last daemon, and gives it its own back.
    func adopt(from process: pid_t) throws {
        let place = "/tmp/fuse_fd_comm.\(process)"
        let socket = Descriptor(
            owning: try checked(clinux_root_connect(place, process), "connect to JuiceFS at \(place)"))
        guard let (message, descriptors) = receive(socket), descriptors.count == 2 else {
            throw SystemError(EPROTO, "take over the mount of JuiceFS \(process)")
        }
        var number = descriptors[1].number
        guard clinux_send(socket.number, message, message.count, &number, 1) == message.count else {
            throw SystemError(EPIPE, "give JuiceFS \(process) its mount back")
        }
        held.withLock { $0 = Held(descriptor: descriptors[1], setting: message) }
    }
}
