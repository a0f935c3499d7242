// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The nftables rules of one daemon, as text for `nft -f`.
///
/// `table inet` decides what is routed, `table bridge` what may come out of a sprite at all. Loading them again
/// replaces them in one transaction: at no moment are there none.
struct Firewall: Sendable {
    var tag: String
    var bridge: String
    var portPrefix: String
    var subnet: Subnet
    var nameServers: [String]
    /// Name of the port of the sprite with this offset in the subnet.
    var portName: @Sendable (UInt32) -> String

    /// Private networks that sprites may use all the same, as the operator wants it.
    var opened: [Subnet]
    /// Where the daemon answers questions for names; nil leaves restricted sprites without names.
    var guardPort: Int?
    /// Where the daemon takes requests that carry secrets; nil where the operator wants none of it.
    var brokerPort: Int?
    /// The packet log's group.
    var logGroup: UInt16

    var table: String { Firewall.table(tag) }
    static func table(_ tag: String) -> String { "sprited_\(tag)" }

    /// Sets outlive a loading: sprites that outlived their daemon stay restricted, with what their names led to.
    var rules: String {
        """
        table inet \(table) {
            set name_servers { type ipv4_addr; }
            set opened { type ipv4_addr; flags interval; auto-merge; }
            set private { type ipv4_addr; flags interval; }
            # Sprites with a network policy, the number of the policy in force, and all numbers in force.
            set restricted { type ipv4_addr; }
            map epochs { type ipv4_addr : mark; }
            set current { type mark; }
            # Where an allowed name led under a policy.
            set names { type mark . ipv4_addr; flags timeout; size 262144; }
            # Sprites with limits, and where these are.
            map uploads { type ipv4_addr : verdict; }
            map downloads { type ipv4_addr : verdict; }
            # Sprites with secrets: their requests to the hosts of these go through the daemon.
            set brokered { type ipv4_addr; }
            # Who asks for names how often: what is over it never reaches the daemon.
            set asking { type ipv4_addr; flags dynamic, timeout; timeout 10s; size 4096; }
            # Who reached a limit how often: told to the daemon about once a second, of each limit.
            set over_connections_told { type ipv4_addr; flags dynamic, timeout; timeout 10s; size 4096; }
            set over_bandwidth_told { type ipv4_addr; flags dynamic, timeout; timeout 10s; size 4096; }
        }
        flush table inet \(table)
        flush map inet \(table) uploads
        flush map inet \(table) downloads
        flush set inet \(table) brokered
        flush set inet \(table) name_servers
        flush set inet \(table) opened
        flush set inet \(table) private
        \(elements("name_servers", nameServers))
        \(elements("opened", opened.map(\.description)))
        \(elements("private", Self.privateNetworks))
        table inet \(table) {
            # Sprites share the host's address when they go out.
            chain nat {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr \(subnet) oifname != "\(bridge)" masquerade
            }

            # Whichever name server a restricted sprite asks, the daemon answers.
            chain questions {
                type nat hook prerouting priority dstnat; policy accept;
                \(redirection("restricted"))
                \(redirection("brokered"))
                \(brokerRedirection)
            }

            chain forward {
                type filter hook forward priority filter; policy accept;
                iifname "\(bridge)" ip saddr vmap @uploads
                oifname "\(bridge)" ip daddr vmap @downloads
                oifname "\(bridge)" goto inward
                iifname "\(bridge)" goto outward
            }

            # What is over a sprite's limits.
            chain over_connections {
                update @over_connections_told { ip saddr limit rate 1/second burst 2 packets } \(log("connections"))
                reject with icmpx admin-prohibited
            }

            chain over_upload {
                update @over_bandwidth_told { ip saddr limit rate 1/second burst 2 packets } \(log("bandwidth"))
                drop
            }

            chain over_download {
                update @over_bandwidth_told { ip daddr limit rate 1/second burst 2 packets } \(log("bandwidth"))
                drop
            }

            # Answers to what a sprite began; nobody else reaches a sprite, also no sprite of another daemon.
            chain inward {
                iifname "\(bridge)" drop
                ct state != { established, related } drop
                meta mark set ip daddr map @epochs goto inward_restricted
                ip saddr @name_servers udp sport 53 limit rate 100/second burst 100 packets \(log("answer"))
                accept
            }

            chain inward_restricted {
                ct mark @current accept
                ip saddr @private ip saddr != @opened drop
                meta mark . ip saddr @names ct mark set meta mark accept
                meta l4proto tcp reject with tcp reset
                drop
            }

            chain outward {
                meta nfproto != ipv4 drop
                ip saddr != \(subnet) drop
                meta mark set ip saddr map @epochs goto outward_restricted
                ip daddr @name_servers meta l4proto { tcp, udp } th dport 53 accept
                ip daddr @private ip daddr != @opened goto refused
                ct state new limit rate 100/second burst 100 packets \(log("contact"))
                accept
            }

            chain outward_restricted {
                ct state { established, related } ct mark @current accept
                ip daddr @private ip daddr != @opened goto refused
                meta mark . ip daddr @names ct mark set meta mark accept
                goto refused
            }

            chain refused {
                limit rate 50/second burst 100 packets \(log("refused"))
                meta l4proto tcp reject with tcp reset
                reject with icmpx type admin-prohibited
            }

            # What the broker sends to sprites.
            chain answers {
                type filter hook output priority filter; policy accept;
                \(brokerAnswers)
            }

            # The host's own addresses, whichever they are, and services on them.
            chain input {
                type filter hook input priority filter; policy accept;
                iifname != "\(bridge)" accept
                \(guardPermission("restricted", false))
                \(guardPermission("restricted", true))
                \(guardPermission("brokered", false))
                \(guardPermission("brokered", true))
                \(brokerPermission)
                ip saddr @restricted ct direction original ip daddr != \(subnet.gateway) drop
                ip daddr \(subnet.gateway) icmp type echo-request accept
                ip saddr @restricted ct direction original drop
                ct state established,related accept
                ip daddr @name_servers meta l4proto { tcp, udp } th dport 53 accept
                drop
            }
        }

        add table bridge \(table)
        delete table bridge \(table)
        table bridge \(table) {
            # A port speaks for its own addresses only, hardware addresses as well: the bridge would send a neighbour's
            # packets to whoever names itself as the neighbour. All follow from one another, so the list never changes.
            set sources {
                type ifname . ether_addr . ipv4_addr
                elements = { \(sources) }
            }

            chain prerouting {
                type filter hook prerouting priority filter; policy accept;
                iifname != "\(portPrefix)*" accept
                ether type ip iifname . ether saddr . ip saddr != @sources drop
                ether type arp iifname . ether saddr . arp saddr ip != @sources drop
                ether type arp iifname . arp saddr ether . arp saddr ip != @sources drop
                ether type { ip, arp } accept
                drop
            }
        }

        """
    }

    /// Networks that are not the internet (RFC 6890): the operator's own, link-local with the metadata services of
    /// clouds, loopback, multicast.
    static let privateNetworks = [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
    ].compactMap { Subnet($0)?.description }

    private func elements(_ set: String, _ values: [String]) -> String {
        values.isEmpty ? "" : "add element inet \(table) \(set) { \(values.joined(separator: ", ")) }"
    }

    private func log(_ prefix: String) -> String { "log group \(logGroup) snaplen 1400 prefix \"\(prefix)\"" }

    private func redirection(_ set: String) -> String {
        guard let guardPort else { return "" }
        return "iifname \"\(bridge)\" ip saddr @\(set) meta l4proto { tcp, udp } th dport 53 "
            + "dnat ip to \(subnet.gateway):\(guardPort)"
    }

    private var brokerRedirection: String {
        guard let brokerPort else { return "" }
        return "iifname \"\(bridge)\" ip saddr @brokered ip daddr \(subnet.gateway) tcp dport 443 "
            + "dnat ip to \(subnet.gateway):\(brokerPort)"
    }

    /// To the broker and nowhere else, with the limits that hold for what goes out. Another port of a host that has a
    /// secret is refused at once, not silently.
    private var brokerPermission: String {
        guard let brokerPort else { return "" }
        let own = "ip saddr @brokered ip daddr \(subnet.gateway)"
        return [
            "\(own) tcp dport \(brokerPort) ip saddr vmap @uploads", "\(own) tcp dport \(brokerPort) accept",
            "\(own) meta l4proto tcp ct direction original reject with tcp reset",
        ].joined(separator: "\n")
    }

    private var brokerAnswers: String {
        guard let brokerPort else { return "" }
        return "oifname \"\(bridge)\" tcp sport \(brokerPort) ip daddr vmap @downloads"
    }

    private func guardPermission(_ set: String, _ isAccepted: Bool) -> String {
        guard let guardPort else { return "" }
        return "ip saddr @\(set) ip daddr \(subnet.gateway) meta l4proto { tcp, udp } th dport \(guardPort) "
            + (isAccepted ? "accept" : "update @asking { ip saddr limit rate over 300/second burst 600 packets } drop")
    }

    static func removal(table: String) -> String {
        """
        add table inet \(table)
        delete table inet \(table)
        add table bridge \(table)
        delete table bridge \(table)

        """
    }

    private var sources: String {
        subnet.offsets.map { offset in
            let address = subnet.address(offset)
            return "\"\(portName(offset))\" . \(innerHardwareAddress(address)) . \(address)"
        }.joined(separator: ", ")
    }
}

/// Of `eth0` inside; clinux_make_port gives it.
func innerHardwareAddress(_ address: IPv4Address) -> String { hardwareAddress(kind: 2, address) }

/// Locally administered: two bytes and an IPv4 address.
func hardwareAddress(kind: UInt32, _ address: IPv4Address) -> String {
    let value = address.rawValue
    let bytes: [UInt32] = [0x02, kind, value >> 24, value >> 16 & 0xFF, value >> 8 & 0xFF, value & 0xFF]
    return bytes.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined(separator: ":")
}
