// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Lets apt in a base of the host's own distribution and suite read from where the host reads.
struct HostArchives {
    let tree: RootTree
    let network: HostNetwork
    let progress: BaseProgressHandler

    func install() throws {
        let release = Release(tree.read("/etc/os-release") ?? tree.read("/usr/lib/os-release") ?? "")
        guard let suite = release.suite, release.distro == network.release.distro, suite == network.release.suite
        else { return }
        let sources = Self.usable(network.sources, suite: suite)
        guard !sources.isEmpty else { return }
        for source in sources {
            if let keyring = source.signedBy, keyring.hasPrefix("/"), !tree.exists(keyring) { try copyKey(keyring) }
        }
        // Keys without a source of their own: public, and only those the base does not have.
        for name in folderNames("/etc/apt/trusted.gpg.d") where name.hasSuffix(".asc") || name.hasSuffix(".gpg") {
            let path = "/etc/apt/trusted.gpg.d/\(name)"
            if !tree.exists(path), sources.contains(where: { $0.signedBy == nil }) { try copyKey(path) }
        }
        // Also where mmdebstrap and the images of the distributions name their archives.
        for old in ["0000main.sources", "0000main.list", "debian.sources", "ubuntu.sources"] {
            tree.remove("/etc/apt/sources.list.d/\(old)")
        }
        if tree.exists("/etc/apt/sources.list") { try tree.write("/etc/apt/sources.list", "") }
        let secret = sources.contains(where: \.hasCredentials)
        try tree.write(
            "/etc/apt/sources.list.d/sprite-host.sources", sources.map(\.text).joined(separator: "\n"),
            mode: secret ? 0o600 : 0o644)
        if secret {
            progress(BaseProgress("an apt source holds a password; it is in every sprite of this base", isNotice: true))
        }
        try copyAuthentication(sources)
    }

    /// Archives of packages for this suite over the network. Others of the host are its own affair.
    static func usable(_ sources: [AptSource], suite: String) -> [AptSource] {
        sources.compactMap { source in
            var source = source
            source.suites = source.suites.filter { name in
                name == suite || ["-updates", "-security", "/updates"].contains { name == suite + $0 }
            }
            source.uris = source.uris.filter { $0.hasPrefix("http://") || $0.hasPrefix("https://") }
            let isMain = source.components.contains("main")
            return source.suites.isEmpty || source.uris.isEmpty || !isMain ? nil : source
        }
    }

    private func copyKey(_ path: String) throws {
        // Binary keyrings are no text: copied by the descriptor of a file that is made first.
        try tree.write(path, "")
        let target = try tree.open(path, O_WRONLY)
        guard access(path, R_OK) == 0 else { return }
        try runTool("sh", ["-c", "exec cat -- \"$1\" >&3", "sh", path], descriptors: [target.number])
    }

    /// `machine HOST login … password …` of the hosts the sources name, and no other; apt_auth.conf(5).
    private func copyAuthentication(_ sources: [AptSource]) throws {
        let files = ["/etc/apt/auth.conf"] + folderNames("/etc/apt/auth.conf.d").map { "/etc/apt/auth.conf.d/\($0)" }
        let hosts = Set(sources.flatMap(\.hosts))
        var entries: [String] = []
        for file in files {
            let words = ((try? readSmallFile(file)) ?? "").words
            for part in words.split(separator: "machine") {
                guard let machine = part.first else { continue }
                let address = machine.range(of: "://").map { machine[$0.upperBound...] } ?? machine[...]
                if hosts.contains(String(address.prefix { $0 != "/" })) {
                    entries.append("machine " + part.joined(separator: " "))
                }
            }
        }
        guard !entries.isEmpty else { return }
        try tree.write("/etc/apt/auth.conf.d/90sprite-host.conf", entries.joined(separator: "\n") + "\n", mode: 0o600)
        progress(
            BaseProgress("apt's credentials for a mirror are in every sprite of this base, for root", isNotice: true))
    }
}
