// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// A network that is set up on the host.
struct Plan: Sendable {
    let tag: String
    let bridge: String
    let portPrefix: String
    let subnet: Subnet
    let mtu: UInt32

    func portName(_ offset: UInt32) -> String {
        let digits = String(offset, radix: 16)
        return portPrefix + String(repeating: "0", count: max(0, 3 - digits.utf8.count)) + digits
    }

    /// Makes what is missing. Safe to repeat, and to be cut short anywhere.
    static func carryOut(
        tag: String, bridge: String, portPrefix: String, wanted: Subnet?, runDirectory: String
    ) throws -> Plan {
        // Two daemons that start together must not choose the same subnet; it is taken once the bridge has its route.
        let lock = try Descriptor.open("\(runDirectory)/../network.lock", O_RDWR | O_CREAT)
        try system("lock the choice of a subnet") { flock(lock.number, LOCK_EX) }
        defer { withExtendedLifetime(lock) {} }

        let subnet = try chooseSubnet(tag: tag, bridge: bridge, wanted: wanted)
        let plan = Plan(
            tag: tag, bridge: bridge, portPrefix: portPrefix, subnet: subnet, mtu: HostNetwork.uplinkMTU())
        try plan.makeBridge()
        return plan
    }

    /// Loads the rules; they come before anything is switched on that needs them.
    func load(_ firewall: Firewall) throws {
        // Of sprites that may have gone while no daemon ran; whoever adopts a sprite makes its chains again.
        let abandoned = try limitingChains().map { "delete chain inet \(firewall.table) \($0)\n" }.joined()
        do { try runTool("nft", ["-f", "-"], inputFile: firewall.rules + abandoned) } catch {
            // Tables of another version, whose sets differ: policies are put in force again by whoever adopts sprites.
            try runTool("nft", ["-f", "-"], inputFile: Firewall.removal(table: firewall.table) + firewall.rules)
        }
        try ForwardPermission(bridge: bridge).grant()
        try HostNetwork.startForwarding()
    }

    func remove() throws {
        // Ports of namespaces that were just let go disappear a moment later; one that stays has a sprite.
        let deadline = ContinuousClock.Instant.now + .seconds(3)
        while !HostNetwork.ports(of: bridge).isEmpty {
            guard .now < deadline else { return }
            usleep(20_000)
        }
        ForwardPermission(bridge: bridge).withdraw()
        if HostNetwork.exists(bridge) { try runTool("ip", ["link", "delete", bridge]) }
        try runTool("nft", ["-f", "-"], inputFile: Firewall.removal(table: Firewall.table(tag)))
    }

    /// Namespaces with a connected and configured `eth0`.
    func makeSlot(_ offset: UInt32) throws -> NetworkSlot {
        var user: Int32 = -1
        var network: Int32 = -1
        try traced("clone.namespaces") {
            _ = try checked(
                clinux_make_namespaces(100_000, 65_536, &user, &network), "make a user and a network namespace")
        }
        let address = subnet.address(offset)
        var stage: UnsafePointer<CChar>?
        let result = portName(offset).withCString { name in
            bridge.withCString { bridge in
                var options = clinux_port_options(
                    network_namespace: network, host_name: name, bridge: bridge, mtu: mtu, address: address.rawValue,
                    gateway: subnet.gateway.rawValue, prefix_length: Int32(subnet.prefixLength))
                return traced("netlink.port", String(cString: name)) { clinux_make_port(&options, &stage) }
            }
        }
        guard result >= 0 else {
            close(user)
            close(network)
            throw SystemError(-result, "\(stage.map { String(cString: $0) } ?? "connect") for \(portName(offset))")
        }
        return NetworkSlot(userNamespace: user, networkNamespace: network, address: address.description)
    }

    /// Chains with limits of single sprites.
    private func limitingChains() throws -> [String] {
        // table inet sprited_x {
        //     chain up_10_64_0_2 {
        var (table, chains): (Substring?, [String]) = (nil, [])
        for line in try runTool("nft", ["list", "chains", "inet"]).standardOutput.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            if words.count >= 3, words[0] == "table" { table = words[2] }
            guard words.count >= 2, words[0] == "chain", table == Firewall.table(tag)[...] else { continue }
            if words[1].hasPrefix("up_") || words[1].hasPrefix("down_") { chains.append(String(words[1])) }
        }
        return chains
    }

    /// Policies that an earlier daemon left in the kernel.
    func epochsInForce() throws -> [IPv4Address: UInt32] {
        let text = try runTool("nft", ["list", "map", "inet", Firewall.table(tag), "epochs"]).standardOutput
        // elements = { 10.64.0.2 : 0x1234abcd, 10.64.0.3 : 0x… }
        let separators: Set<Character> = [" ", "\n", "\t", ",", "{", "}"]
        let words = text.split(whereSeparator: separators.contains)
        var result: [IPv4Address: UInt32] = [:]
        for index in words.indices.dropFirst().dropLast() where words[index] == ":" {
            let value = words[index + 1]
            guard let address = IPv4Address(words[index - 1]), value.hasPrefix("0x") else { continue }
            result[address] = UInt32(value.dropFirst(2), radix: 16)
        }
        return result
    }

    func firewall(
        nameServers: [String], opened: [Subnet], guardPort: Int?, brokerPort: Int?, logGroup: UInt16
    ) -> Firewall {
        Firewall(
            tag: tag, bridge: bridge, portPrefix: portPrefix, subnet: subnet, nameServers: nameServers,
            portName: { portName($0) }, opened: opened, guardPort: guardPort, brokerPort: brokerPort,
            logGroup: logGroup)
    }

    private func makeBridge() throws {
        var commands = ""
        if !HostNetwork.exists(bridge) { commands += "link add \(bridge) type bridge stp_state 0 forward_delay 0\n" }
        // An address of its own: otherwise the bridge takes that of a port, and sprites' ARP entries go stale.
        commands += "link set \(bridge) address \(hardwareAddress(kind: 0, subnet.gateway)) mtu \(mtu) up\n"
        commands += "address replace \(subnet.gateway)/\(subnet.prefixLength) dev \(bridge)\n"
        try runTool("ip", ["-batch", "-"], input: commands)
        try? writeSmallFile("/proc/sys/net/ipv6/conf/\(bridge)/disable_ipv6", "1")
    }

    private static func chooseSubnet(tag: String, bridge: String, wanted: Subnet?) throws -> Subnet {
        let routes = try HostNetwork.routes()
        // A bridge that is there has sprites with addresses of its subnet: nothing else can be used now.
        if let own = routes.first(where: { $0.device == bridge })?.destination, (20...28).contains(own.prefixLength) {
            return own
        }
        if let wanted { return wanted }
        guard let subnet = Subnet.choose(tag: tag, routes: routes.map(\.destination)) else {
            throw SpriteError(
                .unsupported,
                "cannot choose a subnet: the host has routes to all of 10.64.0.0/10; name one in the configuration")
        }
        return subnet
    }
}

/// Runs a tool whose input may be longer than a pipe holds.
func runTool(_ program: String, _ arguments: [String], inputFile text: String) throws {
    let file = try memoryFile(text)
    try runTool(
        program, arguments.map { $0 == "-" ? "/proc/self/fd/3" : $0 }, descriptors: [file.number])
}

/// A file without a name that holds a text.
func memoryFile(_ text: String) throws -> Descriptor {
    let file = Descriptor(owning: try checked(clinux_memory_file("input"), "make a memory file"))
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(file.number, $0.baseAddress, $0.count) }
        guard count > 0 else { throw SystemError(count < 0 ? errno : EIO, "write a memory file") }
        bytes = bytes.dropFirst(count)
    }
    try system("rewind a memory file") { Int32(lseek(file.number, 0, SEEK_SET)) }
    return file
}
