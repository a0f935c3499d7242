// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The nftables rules of one daemon, as text for `nft -f`.
///
/// `table inet` decides what is routed, `table bridge` what may come out of a sprite at all. Loading them again
/// replaces them in one transaction: at no moment are there none.
struct Firewall {
    var tag: String
    var bridge: String
    var portPrefix: String
    var subnet: Subnet
    var nameServers: [String]
    /// Name of the port of the sprite with this offset in the subnet.
    var portName: (UInt32) -> String

    var table: String { "sprited_\(tag)" }

    var rules: String {
        """
        add table inet \(table)
        delete table inet \(table)
        table inet \(table) {
            set name_servers {
                type ipv4_addr
                \(nameServers.isEmpty ? "" : "elements = { \(nameServers.joined(separator: ", ")) }")
            }

            # Sprites share the host's address when they go out.
            chain nat {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr \(subnet) oifname != "\(bridge)" masquerade
            }

            chain forward {
                type filter hook forward priority filter; policy accept;
                # Answers to what a sprite began; nobody else reaches a sprite, also no sprite of another daemon.
                oifname "\(bridge)" iifname != "\(bridge)" ct state established,related accept
                oifname "\(bridge)" drop
                iifname "\(bridge)" ip saddr != \(subnet) drop
                iifname "\(bridge)" meta nfproto ipv6 drop
                iifname "\(bridge)" ip daddr @name_servers meta l4proto { tcp, udp } th dport 53 accept
                # Clouds hand out the host's credentials here.
                iifname "\(bridge)" ip daddr 169.254.0.0/16 drop
                iifname "\(bridge)" accept
            }

            # The host's own addresses, whichever they are, and services on them.
            chain input {
                type filter hook input priority filter; policy accept;
                iifname != "\(bridge)" accept
                ct state established,related accept
                ip daddr \(subnet.gateway) icmp type echo-request accept
                ip daddr @name_servers meta l4proto { tcp, udp } th dport 53 accept
                drop
            }
        }

        add table bridge \(table)
        delete table bridge \(table)
        table bridge \(table) {
            # A port speaks for its own address only. Port names follow from addresses, so the list never changes.
            set sources {
                type ifname . ipv4_addr
                elements = { \(sources) }
            }

            chain prerouting {
                type filter hook prerouting priority filter; policy accept;
                iifname != "\(portPrefix)*" accept
                ether type ip iifname . ip saddr != @sources drop
                ether type arp iifname . arp saddr ip != @sources drop
                ether type { ip, arp } accept
                drop
            }
        }

        """
    }

    var removal: String {
        """
        add table inet \(table)
        delete table inet \(table)
        add table bridge \(table)
        delete table bridge \(table)

        """
    }

    private var sources: String {
        subnet.offsets.map { "\"\(portName($0))\" . \(subnet.address($0))" }.joined(separator: ", ")
    }
}
