// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain
import SpriteSystem

/// What this host offers to the sprites' network. Changes nothing, and needs no daemon.
package enum NetworkDoctor {
    /// Blocks for some milliseconds.
    package static func checks() -> [HostCheck] {
        [
            tool("ip", package: "iproute2"), packetFilter(), policies(), forwarding(), otherFilters(), names(),
            certificates(),
        ]
    }

    private static func tool(_ name: String, package: String) -> HostCheck {
        findProgram(name).map { HostCheck(name, .ok, found: $0) }
            ?? HostCheck(
                name, .missing, found: "not installed", lost: "no sprite can start", fix: "apt-get install \(package)")
    }

    private static func packetFilter() -> HostCheck {
        guard findProgram("nft") != nil else { return tool("nft", package: "nftables") }
        // Checked but not loaded. Each needs other parts of the kernel.
        for family in ["inet", "bridge"] {
            let hook = family == "inet" ? "forward" : "prerouting"
            let rules = "table \(family) sprited_doctor { chain c { type filter hook \(hook) priority 0; }; }"
            do { try runTool("nft", ["--check", "--file", "-"], input: rules) } catch {
                return HostCheck(
                    "nftables", .missing, found: "no \(family) tables: \(error)", lost: "no sprite can start",
                    fix: "use a kernel with nf_tables (CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE); run as root")
            }
        }
        return HostCheck("nftables", .ok, found: "inet and bridge tables")
    }

    /// What network policies need of the kernel beyond a packet filter.
    private static func policies() -> HostCheck {
        let rules = """
            table inet sprited_doctor {
                set names { type mark . ipv4_addr; flags timeout; }
                map epochs { type ipv4_addr : mark; }
                chain c {
                    type filter hook forward priority 0;
                    meta mark set ip saddr map @epochs meta mark . ip daddr @names ct mark set meta mark
                    limit rate 1/second log group 1024
                }
                chain n {
                    type nat hook prerouting priority dstnat;
                    udp dport 53 dnat ip to 127.0.0.1:53
                }
            }
            """
        do { try runTool("nft", ["--check", "--file", "-"], input: rules) } catch {
            return HostCheck(
                "network policies", .missing, found: "the packet filter lacks a part: \(error)",
                lost: "no sprite can start",
                fix: "use a kernel with CONFIG_NFT_CT, CONFIG_NFT_NAT, CONFIG_NFT_LIMIT, CONFIG_NFT_LOG and "
                    + "CONFIG_NETFILTER_NETLINK_LOG; run as root")
        }
        return HostCheck("network policies", .ok, found: "sets with timeouts, marks, redirection, packet log")
    }

    private static func forwarding() -> HostCheck {
        HostNetwork.forwards()
            ? HostCheck("ip_forward", .ok, found: "on")
            : HostCheck(
                "ip_forward", .warning, found: "off",
                lost: "sprites reach nothing outside until sprited switches it on, which it does at its start",
                fix: "sysctl -w net.ipv4.ip_forward=1")
    }

    private static func otherFilters() -> HostCheck {
        guard findProgram("iptables") != nil,
            let forward = try? runTool("iptables", ["-w", "5", "-S", "FORWARD"]).standardOutput
        else { return HostCheck("other packet filters", .ok, found: "no iptables") }
        guard forward.contains("-P FORWARD DROP") else {
            return HostCheck("other packet filters", .ok, found: "forwarding is not refused")
        }
        return HostCheck(
            "other packet filters", .ok,
            found: "iptables refuse forwarding, as Docker sets them; sprited adds an exception for its bridge at start")
    }

    private static func names() -> HostCheck {
        let servers = NameServers.current()
        guard servers != NameServers.publicDefaults else {
            return HostCheck(
                "name servers", .warning, found: "none that a sprite can reach",
                lost: "sprites ask public ones (\(servers.joined(separator: ", ")))",
                fix: "name a server that is not on the loopback in /etc/resolv.conf")
        }
        return HostCheck("name servers", .ok, found: servers.joined(separator: ", "))
    }

    /// Older ones cannot sign a certificate in one step, without files for keys.
    private static func certificates() -> HostCheck {
        let lost = "sprites can have no secrets: --credential-broker makes certificates with it"
        guard findProgram("openssl") != nil else {
            return HostCheck(
                "openssl", .warning, found: "not installed", lost: lost, fix: "apt-get install openssl (3.0 or newer)")
        }
        let version = (try? runTool("openssl", ["version"]).standardOutput) ?? ""
        let words = version.split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard words.count > 1, words[0] == "OpenSSL",
            let major = words[1].split(separator: ".").first.flatMap({ Int($0) }),
            major >= 3
        else {
            return HostCheck(
                "openssl", .warning, found: words.isEmpty ? "it does not run" : words.prefix(2).joined(separator: " "),
                lost: lost, fix: "install OpenSSL 3.0 or newer")
        }
        return HostCheck("openssl", .ok, found: String(words[1]))
    }
}
