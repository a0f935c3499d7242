// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteProxy
import Testing

@Suite struct ListeningSocketTests {
    private let head =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

    @Test func `only sockets that listen are found`() {
        let table =
            head + """
                   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0
                   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 12346 1 0 20 4 30 10 -1

                """
        #expect(ListeningSocket.parse(table) == [ListeningSocket(port: 8080, address: "127.0.0.1", inode: 12345)])
    }

    @Test func `addresses of the sixth version are read word by word`() {
        let table =
            head + """
                   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0 100 0 0 10 0

                """
        #expect(ListeningSocket.parse(table) == [ListeningSocket(port: 3000, address: "::1", inode: 77)])
    }

    @Test(arguments: [
        "", "x", "a\nb c d 0A e f g h i j", "h\n 0: 01:ZZ x 0A a b c d e 1", "h\n 0: 0100007F:1F90 x 0A a b c d e -1",
    ])
    func `damaged tables have no sockets`(_ table: String) {
        #expect(ListeningSocket.parse(table).isEmpty)
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
