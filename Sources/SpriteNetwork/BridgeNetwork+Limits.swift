// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import SpriteDomain
import SpriteSystem

extension BridgeNetwork {
    package func limit(_ address: String, bandwidthMbit: Int?, connections: Int?) async throws {
        guard let plan, let address = IPv4Address(address) else { return }
        let wanted = NetworkLimit(bandwidthMbit: bandwidthMbit, connections: connections)
        // The usual case costs nothing.
        guard limits[address] ?? NetworkLimit() != wanted else { return }
        let text = wanted.rules(table: Firewall.table(plan.tag), address: address)
        do {
            try await blocking { try runTool("nft", ["-f", "-"], inputFile: text) }
        } catch {
            throw SpriteError(
                .internalError, "cannot limit the network; the limits that were in force before still are", cause: error
            )
        }
        limits[address] = wanted == NetworkLimit() ? nil : wanted
    }

    /// Whoever gets the address next begins without limits.
    func liftLimits(_ address: IPv4Address) async {
        do { try await limit("\(address)", bandwidthMbit: nil, connections: nil) } catch {
            logger.error("cannot lift limits of the network", metadata: ["address": "\(address)", "error": "\(error)"])
        }
    }
}

/// What one sprite may use of the network; nil means no limit.
struct NetworkLimit: Sendable, Hashable {
    /// In each direction.
    var bandwidthMbit: Int?
    /// Outwards, at once.
    var connections: Int?

    /// One transaction of the kernel: two chains of the sprite's own, which `uploads` and `downloads` lead to.
    ///
    /// What is over the rate is dropped, which TCP takes as a slower line. The kernel lets a second's worth and the burst pass
    /// at once; the burst is at least the 128 KiB that a pair of its large segments take.
    func rules(table: String, address: IPv4Address) -> String {
        let name = "\(address)".replacing(".", with: "_")
        var lines: [String] = []
        for (map, chain) in [("uploads", "up_\(name)"), ("downloads", "down_\(name)")] {
            lines.append("add chain inet \(table) \(chain)")
            lines.append("flush chain inet \(table) \(chain)")
            lines.append("add element inet \(table) \(map) { \(address) : jump \(chain) }")
        }
        guard self != NetworkLimit() else {
            for (map, chain) in [("uploads", "up_\(name)"), ("downloads", "down_\(name)")] {
                lines.append("delete element inet \(table) \(map) { \(address) }")
                lines.append("delete chain inet \(table) \(chain)")
            }
            return lines.joined(separator: "\n") + "\n"
        }
        if let connections {
            lines.append(
                "add rule inet \(table) up_\(name) ct state new ct count over \(connections) goto over_connections")
        }
        if let bandwidthMbit {
            let bytes = bandwidthMbit * 125_000
            for (chain, over) in [("up_\(name)", "over_upload"), ("down_\(name)", "over_download")] {
                lines.append(
                    "add rule inet \(table) \(chain) limit rate over \(bytes) bytes/second "
                        + "burst \(max(131_072, bytes / 10)) bytes goto \(over)")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
