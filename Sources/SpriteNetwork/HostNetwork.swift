// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Facts about the host's network, read from /proc and /sys.
enum HostNetwork {
    /// Destinations of the host's IPv4 routes, the default route included.
    static func routes() throws -> [Route] {
        try readSmallFile("/proc/net/route", bytesMax: 16 << 20).split(separator: "\n").dropFirst().compactMap {
            Route($0)
        }
    }

    struct Route {
        var device: String
        var destination: Subnet

        /// One line of /proc/net/route: addresses are hexadecimal numbers in the host's byte order of network order.
        init?(_ line: Substring) {
            let fields = line.split { $0 == "\t" || $0 == " " }
            guard fields.count > 7, let destination = UInt32(fields[1], radix: 16),
                let mask = UInt32(fields[7], radix: 16),
                let subnet = Subnet(
                    network: IPv4Address(rawValue: UInt32(bigEndian: destination)),
                    prefixLength: mask.nonzeroBitCount)
            else { return nil }
            device = String(fields[0])
            self.destination = subnet
        }
    }

    /// The smallest packet size of the devices that lead outside; packets larger than that would be lost or split.
    static func uplinkMTU() -> UInt32 {
        let devices = (try? routes())?.filter { $0.destination.prefixLength == 0 }.map(\.device) ?? []
        return devices.compactMap { try? readNumber("/sys/class/net/\($0)/mtu") }.min() ?? 1500
    }

    static func exists(_ device: String) -> Bool { access("/sys/class/net/\(device)", F_OK) == 0 }

    /// Names of the ports of a bridge.
    static func ports(of bridge: String) -> [String] {
        guard let directory = opendir("/sys/class/net/\(bridge)/brif") else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    static func forwards() -> Bool {
        ((try? readNumber("/proc/sys/net/ipv4/ip_forward")) ?? 0) == 1
    }

    static func startForwarding() throws {
        guard !forwards() else { return }
        try writeSmallFile("/proc/sys/net/ipv4/ip_forward", "1")
    }

    private static func readNumber(_ path: String) throws -> UInt32 {
        let text = try readSmallFile(path)
        guard let number = UInt32(text.prefix { $0 != "\n" }) else { throw SystemError(EINVAL, "read \(path)") }
        return number
    }
}
