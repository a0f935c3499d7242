// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteProxy
import SpriteSystem
import Testing

@Suite struct ListeningSocketTests {
    private func listener(_ family: Int32) throws -> (socket: Descriptor, port: UInt16) {
        let socket = Descriptor(owning: try system("socket") { Glibc.socket(family, Int32(SOCK_STREAM.rawValue), 0) })
        // Not bound: the kernel chooses a port, on every address.
        try system("listen") { listen(socket.number, 1) }
        var address = sockaddr_in6()
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = withUnsafeMutableBytes(of: &address) { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { getsockname(socket.number, $0.baseAddress, &size) }
        }
        #expect(result == 0)
        return (socket, UInt16(bigEndian: address.sin6_port))
    }

    @Test func `sockets that listen are found with their addresses`() throws {
        let namespace = try Descriptor.open("/proc/self/ns/net", O_RDONLY)
        let (four, port4) = try listener(AF_INET)
        let (six, port6) = try listener(AF_INET6)
        let idle = Descriptor(owning: try system("socket") { Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) })
        let found = try ListeningSocket.all(in: namespace)
        for (socket, port, address) in [(four, port4, "0.0.0.0"), (six, port6, "::")] {
            var facts = stat()
            #expect(fstat(socket.number, &facts) == 0)
            #expect(found.contains(ListeningSocket(port: port, address: address, inode: UInt64(facts.st_ino))))
        }
        withExtendedLifetime(idle) {}
    }
}

@Suite struct TargetAddressTests {
    private let sprite: SpriteName

    init() throws { sprite = try SpriteName("box") }

    @Test(arguments: ["", "localhost", "LOCALHOST", "box", "0.0.0.0", "box.sprites.localhost"])
    func `the sprite itself is asked on both loopbacks, the older first`(_ host: String) {
        #expect(TargetAddress.candidates(host, sprite: sprite) == [.loopback4, .loopback6])
    }

    @Test func `addresses are taken as they are`() {
        #expect(TargetAddress.candidates("10.0.0.1", sprite: sprite).map(\.bytes) == [[10, 0, 0, 1]])
        #expect(TargetAddress.candidates("[::1]", sprite: sprite) == [.loopback6])
        #expect(TargetAddress.candidates("::", sprite: sprite) == [.loopback6, .loopback4])
    }

    @Test(arguments: ["example.com", "1.2.3", "::g", "a b", "127.0.0.1:80"])
    func `other names mean nothing`(_ host: String) {
        #expect(TargetAddress.candidates(host, sprite: sprite).isEmpty)
    }
}
