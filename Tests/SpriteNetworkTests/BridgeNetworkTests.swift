// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import Logging
import SpriteDomain
import SpriteNetwork
import SpriteSystem
import Testing

enum Host {
    static let canMakeNetworks =
        geteuid() == 0 && findProgram("nft") != nil && findProgram("ip") != nil
        || getenv("SPRITE_REQUIRE").map { String(cString: $0).split(separator: ",").contains("network") } ?? false
}

/// A network under a tag of its own, with a scratch folder; removed at the end.
private func withNetwork(_ body: (BridgeNetwork, String, Logger) async throws -> Void) async throws {
    let tag = "t" + String(UInt32.random(in: 0..<0x1000_0000), radix: 16)
    let folder = "/tmp/sprite-network-\(tag)"
    try system("make \(folder)") { mkdir(folder, 0o711) }
    try system("make \(folder)/run") { mkdir("\(folder)/run", 0o711) }
    let logger = Logger(label: "test")
    let network = try BridgeNetwork(tag: tag, runDirectory: "\(folder)/run", logger: logger)
    try await network.prepare()
    var failure: (any Error)?
    do { try await body(network, tag, logger) } catch { failure = error }
    await network.shutdown(removeEverything: true)
    unlink("\(folder)/network.lock")
    rmdir("\(folder)/run")
    rmdir(folder)
    if let failure { throw failure }
}

/// Runs a command in a slot's network; nil if it failed.
private func run(in slot: NetworkSlot, _ command: String) -> String? {
    try? runTool("sh", ["-c", command], namespaces: [slot.networkNamespace]).standardOutput
}

/// Whether an echo request is answered within a second. A ping socket, which needs no right; ping(8) may not be there.
private func ping(_ target: some StringProtocol, from source: String? = nil, in slot: NetworkSlot) -> Bool {
    let program = """
        use Socket;
        socket(S, AF_INET, SOCK_DGRAM, 1) or exit 2;
        bind(S, sockaddr_in(0, inet_aton($ARGV[1]))) or exit 3 if @ARGV > 1;
        send(S, pack("C2n3a4", 8, 0, 0, 1, 1, "ping"), 0, sockaddr_in(0, inet_aton($ARGV[0]))) or exit 4;
        $r = ""; vec($r, fileno S, 1) = 1; exit(select($r, undef, undef, 1) ? 0 : 1);
        """
    let arguments = ["-e", program, String(target)] + (source.map { [$0] } ?? [])
    return (try? runTool("perl", arguments, namespaces: [slot.networkNamespace])) != nil
}

private func waitUntilGone(_ device: String) async throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while access("/sys/class/net/\(device)", F_OK) == 0 {
        guard .now < deadline else { throw SystemError(ETIMEDOUT, "wait for \(device) to go") }
        try await Task.sleep(for: .milliseconds(5))
    }
}

@Suite(.serialized, .enabled(if: Host.canMakeNetworks, "needs root, iproute2 and nftables"))
struct BridgeNetworkTests {
    @Test func `a slot is connected and configured`() async throws {
        try await withNetwork { network, tag, _ in
            let slot = try await network.acquire()
            #expect(run(in: slot, "ip -o -4 address show dev eth0")?.contains(slot.address) == true)
            #expect(run(in: slot, "ip route show default")?.contains("dev eth0") == true)
            #expect(run(in: slot, "cat /proc/sys/net/ipv4/ping_group_range") == "0\t2147483647\n")
            #expect(run(in: slot, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n")
            #expect(run(in: slot, "ip -6 address show dev eth0")?.isEmpty == true)
            let gateway = try #require(run(in: slot, "ip route show default | cut -d' ' -f3 | tr -d '\\n'"))
            #expect(ping(gateway, in: slot))
            #expect(try runTool("bridge", ["-d", "link"]).standardOutput.contains("isolated on"))
            await network.handedOver(slot)
        }
    }

    @Test func `sprites reach neither each other nor services of the host`() async throws {
        try await withNetwork { network, _, _ in
            let (a, b) = (try await network.acquire(), try await network.acquire())
            #expect(a.address != b.address)
            #expect(!ping(b.address, in: a))
            #expect(ping(a.address, in: a))

            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            defer { close(listener) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = bind(listener, $0, length)
                    _ = listen(listener, 1)
                    _ = getsockname(listener, $0, &length)
                }
            }
            let port = UInt16(bigEndian: address.sin_port)
            let gateway = try #require(run(in: a, "ip route show default | cut -d' ' -f3 | tr -d '\\n'"))
            let connect = "timeout 1 bash -c 'echo >/dev/tcp/%/\(port)'"
            #expect(run(in: a, connect.replacing("%", with: gateway)) == nil)
            let hosts = try runTool(
                "sh", ["-c", "ip -o -4 address show scope global | tr -s ' ' | cut -d' ' -f4 | cut -d/ -f1"])
            for host in hosts.standardOutput.split(separator: "\n") {
                #expect(run(in: a, connect.replacing("%", with: host)) == nil, "\(host):\(port)")
            }
            await network.handedOver(a)
            await network.handedOver(b)
        }
    }

    @Test func `a sprite cannot speak for another address`() async throws {
        try await withNetwork { network, tag, _ in
            let slot = try await network.acquire()
            let gateway = try #require(run(in: slot, "ip route show default | cut -d' ' -f3 | tr -d '\\n'"))
            #expect(ping(gateway, in: slot))
            // Another of the subnet, near the end, which nobody has yet.
            let parts = gateway.split(separator: ".").compactMap { Int($0) }
            let other = "\(parts[0]).\(parts[1]).\(parts[2] + 15).200"
            #expect(run(in: slot, "ip address add \(other)/20 dev eth0") != nil)
            #expect(!ping(gateway, from: other, in: slot))
            #expect(ping(gateway, in: slot))
            await network.handedOver(slot)
        }
    }

    @Test func `an unused slot leaves nothing, and its address is used again`() async throws {
        try await withNetwork { network, tag, _ in
            let slot = try await network.acquire()
            let name = try #require(ports(tag).first)
            await network.handedOver(slot)
            await network.release(address: slot.address)
            await network.shutdown()
            try await waitUntilGone(name)
        }
    }

    @Test func `a daemon that starts again keeps what sprites use`() async throws {
        try await withNetwork { network, tag, logger in
            let slot = try await network.acquire()
            await network.shutdown()
            let second = try BridgeNetwork(
                tag: tag, runDirectory: "/tmp/sprite-network-\(tag)/run", logger: logger)
            try await second.prepare()
            await second.adopt(address: slot.address)
            let gateway = try #require(run(in: slot, "ip route show default | cut -d' ' -f3 | tr -d '\\n'"))
            #expect(ping(gateway, in: slot))
            var others: [NetworkSlot] = []
            for _ in 0..<8 { others.append(try await second.acquire()) }
            #expect(Set(others.map(\.address)).count == 8)
            #expect(!others.map(\.address).contains(slot.address))
            // The bridge stays while a sprite is connected.
            await second.shutdown(removeEverything: true)
            #expect(ping(gateway, in: slot))
            for other in others { await second.handedOver(other) }
            await network.handedOver(slot)
            for name in ports(tag) { try await waitUntilGone(name) }
        }
    }

    @Test(arguments: ["", "ABC", "123456789", "a-b", "a b", "a/b"])
    func `a tag that would not fit into device names is refused`(_ tag: String) {
        #expect(throws: SpriteError.self) {
            try BridgeNetwork(tag: tag, runDirectory: "/tmp", logger: Logger(label: "test"))
        }
    }

    private func ports(_ tag: String) -> [String] {
        let output = (try? runTool("ls", ["/sys/class/net/spr\(tag)/brif"]))?.standardOutput ?? ""
        return output.split(separator: "\n").map(String.init)
    }
}

struct NetworkDoctorTests {
    @Test func `every check that finds a lack says what is lost and what to do`() {
        for check in NetworkDoctor.checks() where check.state != .ok {
            #expect(!check.lost.isEmpty, "\(check.name)")
            #expect(!check.fix.isEmpty, "\(check.name)")
        }
    }
}
