// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteSystem

/// Leave to be forwarded from a host whose iptables refuse it, as Docker's do.
///
/// Every filter must accept a packet, so an accept in our own nftables does not help where another table drops. Rules
/// go into DOCKER-USER where it exists, which Docker leaves to others and asks first, else into FORWARD if its policy
/// is to drop. They carry the daemon's bridge, so they hold for its sprites only.
struct ForwardPermission {
    var bridge: String

    func grant() throws {
        guard let chain = chainThatRefuses() else { return }
        for rule in rules where !exists(rule, in: chain) {
            try runTool("iptables", ["-w", "5", "-I", chain] + rule)
        }
    }

    func withdraw() {
        guard findProgram("iptables") != nil else { return }
        for chain in ["DOCKER-USER", "FORWARD"] {
            for rule in rules where exists(rule, in: chain) {
                _ = try? runTool("iptables", ["-w", "5", "-D", chain] + rule)
            }
        }
    }

    private var rules: [[String]] {
        [
            ["-i", bridge, "-m", "comment", "--comment", "sprited", "-j", "ACCEPT"],
            [
                "-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-m", "comment", "--comment",
                "sprited", "-j", "ACCEPT",
            ],
        ]
    }

    private func chainThatRefuses() -> String? {
        guard findProgram("iptables") != nil else { return nil }
        if (try? runTool("iptables", ["-w", "5", "-S", "DOCKER-USER"])) != nil { return "DOCKER-USER" }
        let forward = (try? runTool("iptables", ["-w", "5", "-S", "FORWARD"]))?.standardOutput ?? ""
        return forward.contains("-P FORWARD DROP") ? "FORWARD" : nil
    }

    private func exists(_ rule: [String], in chain: String) -> Bool {
        (try? runTool("iptables", ["-w", "5", "-C", chain] + rule)) != nil
    }
}
