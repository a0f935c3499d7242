// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// What this host needs to reach its network, as far as a base has to know it as well.
struct HostNetwork: Sendable {
    var release: Release
    var sources: [AptSource]
    /// `Acquire::…` settings of apt that matter on the way to a mirror, as `name "value";` lines.
    var aptSettings: [String]
    /// `http_proxy` and the like.
    var proxies: [(name: String, value: String)]
    /// Certificates the operator added: file name and PEM text.
    var certificates: [(name: String, text: String)]
    /// `key = value` lines for pip's `[global]`.
    var pip: [(key: String, value: String)]
    /// What was left out or is sensitive, in words for the user.
    var notices: [String] = []

    static func ofThisHost() -> HostNetwork {
        var result = HostNetwork(
            release: Release((try? readSmallFile("/etc/os-release")) ?? ""), sources: AptSource.all("/etc/apt"),
            aptSettings: [], proxies: [], certificates: hostCertificates(), pip: [])
        result.readProxies()
        result.readAptSettings()
        result.readPip()
        return result
    }

    // MARK: Proxies

    private static let proxyNames = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"]

    private mutating func readProxies() {
        var found: [String: String] = [:]
        for line in ((try? readSmallFile("/etc/environment")) ?? "").split(separator: "\n") {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].trimmed
            let quoted = value.count >= 2 && value.first == value.last && (value.first == "\"" || value.first == "'")
            found[String(parts[0].trimmed)] = String(quoted ? value.dropFirst().dropLast() : value)
        }
        for name in Self.proxyNames.flatMap({ [$0, $0.uppercased()] }) {
            let value = getenv(name).map { String(cString: $0) } ?? found[name] ?? ""
            guard !value.isEmpty, !value.contains("\n"), !value.contains("\"") else { continue }
            guard !isLoopback(value) || name.lowercased() == "no_proxy" else {
                notices.append("\(name) points to this host's loopback, which sprites cannot reach; it is left out")
                continue
            }
            noteCredentials(value, name)
            proxies.append((name, value))
        }
    }

    private func isLoopback(_ value: String) -> Bool {
        let address = value.range(of: "://").map { value[$0.upperBound...] } ?? value[...]
        let host = address.split(separator: "@").last.map(String.init) ?? ""
        return host.hasPrefix("127.") || host.hasPrefix("localhost") || host.hasPrefix("[::1]")
    }

    private mutating func noteCredentials(_ value: String, _ name: String) {
        let address = value.range(of: "://").map { value[$0.upperBound...] } ?? value[...]
        guard address.prefix(while: { $0 != "/" }).contains("@") else { return }
        notices.append("\(name) holds a user name or password; every sprite of this base can read it")
    }

    // MARK: apt

    /// Beginnings of the names of settings that are taken over; hooks and caches of the host are its own affair.
    private static let aptNames = [
        "Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::ftp::Proxy", "Acquire::http::No-Cache",
        "Acquire::http::Timeout", "Acquire::https::Timeout", "Acquire::http::Pipeline-Depth", "Acquire::Retries",
        "Acquire::https::Verify-Peer", "Acquire::https::Verify-Host", "Acquire::Check-Valid-Until",
        "Acquire::Check-Date", "Acquire::ForceIPv4", "Acquire::ForceIPv6", "Acquire::AllowInsecureRepositories",
        "Acquire::AllowWeakRepositories",
    ]

    private mutating func readAptSettings() {
        guard findProgram("apt-config") != nil, let output = try? runTool("apt-config", ["dump", "Acquire"]) else {
            return
        }
        for line in output.standardOutput.split(separator: "\n") {
            guard let name = line.split(separator: " ").first, line.hasSuffix(";"),
                Self.aptNames.contains(where: { name == $0 || name.hasPrefix($0 + "::") })
            else { continue }
            let value = line.dropFirst(name.count).trimmed.dropLast().filter { $0 != "\"" }
            if value.isEmpty || value == "0" { continue }
            if name.contains("Proxy"), isLoopback(value) {
                notices.append("apt's \(name) points to this host's loopback, which sprites cannot reach; left out")
                continue
            }
            noteCredentials(value, String(name))
            aptSettings.append(String(line))
        }
    }

    // MARK: Certificates

    private static func hostCertificates() -> [(name: String, text: String)] {
        let folder = "/usr/local/share/ca-certificates"
        return folderNames(folder).sorted().compactMap { name in
            guard name.hasSuffix(".crt"), let text = try? readSmallFile("\(folder)/\(name)"),
                text.contains("-----BEGIN CERTIFICATE-----"), !text.contains("PRIVATE KEY")
            else { return nil }
            return (name, text.hasSuffix("\n") ? text : text + "\n")
        }
    }

    // MARK: pip

    private static let pipKeys: Set = [
        "index-url", "extra-index-url", "trusted-host", "cert", "timeout", "retries", "proxy", "no-index", "find-links",
    ]

    private mutating func readPip() {
        let home = getenv("HOME").map { String(cString: $0) } ?? "/root"
        let files = [
            "/etc/xdg/pip/pip.conf", "/etc/pip.conf", "\(home)/.pip/pip.conf", "\(home)/.config/pip/pip.conf",
        ]
        var values: [String: String] = [:]
        for file in files { values.merge(Self.parsePip((try? readSmallFile(file)) ?? "")) { $1 } }
        for key in Self.pipKeys {
            let name = "PIP_" + key.uppercased().replacing("-", with: "_")
            if let value = getenv(name) { values[key] = String(cString: value) }
        }
        for (key, value) in values.sorted(by: { $0.key < $1.key }) {
            // Folders of packages are on this host only.
            let kept = key == "find-links" ? value.words.filter { $0.hasPrefix("http") }.joined(separator: " ") : value
            if kept.isEmpty || (key == "no-index" && values["find-links"]?.contains("http") != true) { continue }
            noteCredentials(kept, "pip's \(key)")
            pip.append((key, kept))
        }
    }

    /// The `[global]` section of pip's configuration, an INI file whose values may go on in indented lines.
    static func parsePip(_ text: String) -> [String: String] {
        var result: [String: String] = [:]
        var isGlobal = false
        var last: String?
        for line in text.split(separator: "\n") {
            let content = line.trimmed
            if content.hasPrefix("#") || content.hasPrefix(";") || content.isEmpty { continue }
            if content.hasPrefix("[") {
                isGlobal = content == "[global]" || content == "[install]"
                last = nil
            } else if line.first?.isWhitespace == true, let key = last {
                result[key, default: ""] += " \(content)"
            } else if isGlobal, let sign = content.firstIndex(where: { $0 == "=" || $0 == ":" }) {
                let key = content[..<sign].trimmed.lowercased().replacing("_", with: "-")
                last = pipKeys.contains(key) ? key : nil
                if let last { result[last] = String(content[content.index(after: sign)...].trimmed) }
            }
        }
        return result
    }
}

extension StringProtocol {
    /// Every `character` of the text exchanged for another; without Foundation.
    func replacing(_ character: Character, with other: Character) -> String {
        String(map { $0 == character ? other : $0 })
    }
}

/// What os-release(5) says of a system.
struct Release: Hashable, Sendable {
    var distro: String?
    var suite: String?
    var version: String?

    init(_ text: String) {
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            // An image may be hostile, and these go to terminals.
            let isShown = { (one: Unicode.Scalar) in (0x20...0x7E).contains(one.value) && one != "\"" && one != "'" }
            values[String(parts[0])] = String(
                String.UnicodeScalarView(parts[1].unicodeScalars.filter(isShown).prefix(100)))
        }
        distro = values["ID"]
        suite = values["VERSION_CODENAME"]
        version = values["VERSION_ID"].map { id in suite.map { "\(id) (\($0))" } ?? id } ?? suite
    }
}
