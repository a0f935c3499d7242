// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteNetwork
import Testing

struct SubnetTests {
    @Test(arguments: ["0.0.0.0", "10.64.0.1", "255.255.255.255", "192.0.2.2"])
    func `addresses are read and written`(_ text: String) {
        #expect(IPv4Address(text)?.description == text)
    }

    @Test(arguments: [
        "", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ", "-1.2.3.4", "1..2.3", "0001.2.3.4", "a.b.c.d",
    ])
    func `what is no address is refused`(_ text: String) {
        #expect(IPv4Address(text) == nil)
    }

    @Test func `a subnet knows its addresses`() throws {
        let subnet = try #require(Subnet("10.64.16.0/20"))
        #expect(subnet.gateway.description == "10.64.16.1")
        #expect(subnet.offsets == 2..<4095)
        #expect(subnet.address(4094).description == "10.64.31.254")
        #expect(subnet.offset(of: try #require(IPv4Address("10.64.31.254"))) == 4094)
        #expect(subnet.offset(of: try #require(IPv4Address("10.64.32.1"))) == nil)
    }

    @Test(arguments: ["10.64.16.1/20", "10.64.16.0/33", "10.64.16.0", "10.64.16.0/-1", "/", "10.64.16.0/20/1"])
    func `what is no subnet is refused`(_ text: String) {
        #expect(Subnet(text) == nil)
    }

    @Test func `the chosen subnet avoids routes and stays the same`() throws {
        let first = try #require(Subnet.choose(tag: "0123abcd", routes: []))
        #expect(first.prefixLength == 20)
        #expect(try #require(Subnet("10.64.0.0/10")).overlaps(first))
        #expect(Subnet.choose(tag: "0123abcd", routes: []) == first)
        let inside = try #require(Subnet(network: first.gateway, prefixLength: 32))
        let second = try #require(Subnet.choose(tag: "0123abcd", routes: [inside]))
        #expect(!second.overlaps(first))
    }

    @Test func `a route to everything is tolerated, one to exactly the candidates is not`() throws {
        let wide = try #require(Subnet("10.0.0.0/8"))
        let first = try #require(Subnet.choose(tag: "x", routes: [wide]))
        #expect(Subnet.choose(tag: "x", routes: [wide, first]) != first)
        let all = (0..<1024).compactMap {
            Subnet(network: IPv4Address(rawValue: 0x0A40_0000 | $0 << 12), prefixLength: 20)
        }
        #expect(Subnet.choose(tag: "x", routes: all) == nil)
    }
}

struct NameServerTests {
    @Test func `the host's name servers are taken`() {
        let text =
            "# comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::1\nnameserver\t10.0.0.1\n"
        #expect(NameServers.choose(resolvConf: text, resolved: "") == ["192.0.2.53", "10.0.0.1"])
    }

    @Test func `a stub on the loopback is replaced by what it asks itself`() {
        let stub = "nameserver 127.0.0.53\noptions edns0\n"
        #expect(NameServers.choose(resolvConf: stub, resolved: "nameserver 192.0.2.1\n") == ["192.0.2.1"])
        #expect(NameServers.choose(resolvConf: stub, resolved: "") == NameServers.publicDefaults)
    }

    @Test(arguments: ["", "nameserver", "nameserver x", "nameserver 127.0.0.1"])
    func `without any, public ones are used`(_ text: String) {
        #expect(NameServers.choose(resolvConf: text, resolved: text) == NameServers.publicDefaults)
    }
}
