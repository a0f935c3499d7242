// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// Turns a root filesystem into a base: the user, `/.sprite`, what the host's network asks for.
///
/// Runs nothing of the base itself: it may be hostile, and there is no sandbox around it here.
struct BaseFinisher {
    let tree: RootTree
    let network: HostNetwork
    var initSystem = InitSystem.sprite
    let progress: BaseProgressHandler

    static let user = "sprite"
    static let userID: uid_t = 1000

    func run() throws {
        try removeDeviceNodes()
        for folder in ["/.sprite", "/proc", "/sys", "/dev", "/run"] { try tree.makeMountPoint(folder) }
        try tree.makeMountPoint("/tmp", mode: 0o1777)
        for folder in ["/etc", "/home", "/root", "/var/lib"] { try tree.makeDirectory(folder) }
        for folder in ["/var/lib/docker", "/var/lib/containers"] { try tree.makeMountPoint(folder, mode: 0o710) }
        try addUser()
        try addSudo()
        try addPath()
        // PID 1 writes these at every start.
        for file in ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"] { tree.remove(file) }
        for path in ["/.dockerenv", "/etc/machine-id"] { tree.remove(path) }
        try tree.write("/etc/machine-id", "")
        try addCertificates()
        try addProxies()
        if tree.isDirectory("/etc/apt") { try addAptSettings() }
        try addPipSettings()
        try addInitSettings()
        for notice in network.notices { progress(BaseProgress(notice, isNotice: true)) }
    }

    /// A sprite's root is mounted with `nodev`; this is the second lock on the same door.
    private func removeDeviceNodes() throws {
        let test = ["(", "-type", "b", "-o", "-type", "c", ")"]
        try runTool("find", [".", "-xdev"] + test + ["-delete"], directory: tree.path)
    }

    // MARK: User

    private func addUser() throws {
        let (user, id) = (Self.user, Self.userID)
        let shell = tree.exists("/bin/bash") ? "/bin/bash" : "/bin/sh"
        var passwd = lines("/etc/passwd")
        if passwd.isEmpty { passwd = ["root:x:0:0:root:/root:\(shell)"] }
        passwd.removeAll { $0.hasPrefix("\(user):") }
        // Images such as node's or ubuntu's have a user 1000; the first of a number gives it its name.
        let first = passwd.firstIndex { Self.field($0, 2) == "\(id)" } ?? passwd.endIndex
        passwd.insert("\(user):x:\(id):\(id):Sprite:/home/\(user):\(shell)", at: first)
        try writeLines("/etc/passwd", passwd)

        var group = lines("/etc/group")
        if group.isEmpty { group = ["root:x:0:"] }
        group.removeAll { $0.hasPrefix("\(user):") }
        group.insert(
            "\(user):x:\(id):", at: group.firstIndex { Self.field($0, 2) == "\(id)" } ?? group.endIndex)
        try writeLines("/etc/group", group)

        for (file, line) in [("/etc/shadow", "\(user):*:19000:0:99999:7:::"), ("/etc/gshadow", "\(user):!::")] {
            guard tree.exists(file) else { continue }
            let entries = lines(file).filter { !$0.hasPrefix("\(user):") } + [line]
            try writeLines(file, entries, mode: 0o640, group: shadowGroup(group))
        }
        try tree.makeDirectory("/home/\(user)", mode: 0o755, owner: id, group: id)
        for name in [".bashrc", ".profile", ".bash_logout"] {
            guard let text = tree.read("/etc/skel/\(name)"), !tree.exists("/home/\(user)/\(name)") else { continue }
            try tree.write("/home/\(user)/\(name)", text, owner: id, group: id)
        }
    }

    private func shadowGroup(_ group: [String]) -> gid_t {
        let line = group.first { $0.hasPrefix("shadow:") }
        return line.flatMap { Self.field($0, 2) }.flatMap { gid_t($0) } ?? 0
    }

    private func addSudo() throws {
        guard tree.exists("/usr/bin/sudo") || tree.exists("/etc/sudoers") else { return }
        try tree.makeDirectory("/etc/sudoers.d", mode: 0o750)
        try tree.write(
            "/etc/sudoers.d/\(Self.user)",
            """
            \(Self.user) ALL=(ALL:ALL) NOPASSWD:ALL
            Defaults secure_path="\(Self.ownCommands):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

            """, mode: 0o440)
    }

    /// The sprite's own commands and those of its language runtimes: first on the PATH of every command, so of a login
    /// shell's and of root's by sudo as well, which begin with a PATH of their own.
    private static let ownCommands = "/.sprite/bin"

    private func addPath() throws {
        guard tree.exists("/etc/profile") else { return }
        try tree.makeDirectory("/etc/profile.d", mode: 0o755)
        try tree.write(
            "/etc/profile.d/\(Self.user).sh",
            """
            case ":$PATH:" in
            *:\(Self.ownCommands):*) ;;
            *) export PATH="\(Self.ownCommands):$PATH" ;;
            esac

            """)
    }

    private func lines(_ path: String) -> [String] {
        (tree.read(path) ?? "").split(separator: "\n").map(String.init)
    }

    private func writeLines(_ path: String, _ lines: [String], mode: mode_t = 0o644, group: gid_t = 0) throws {
        try tree.write(path, lines.joined(separator: "\n") + "\n", mode: mode, group: group)
    }

    private static func field(_ line: String, _ index: Int) -> String? {
        let fields = line.split(separator: ":", omittingEmptySubsequences: false)
        return index < fields.count ? String(fields[index]) : nil
    }

    // MARK: Network

    static let bundle = "/etc/ssl/certs/ca-certificates.crt"

    /// What `update-ca-certificates` would do, without running it; it finds the same files when it runs inside.
    private func addCertificates() throws {
        guard !network.certificates.isEmpty else { return }
        let bundles = [Self.bundle, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"]
        let present = bundles.filter { tree.read($0) != nil }
        let known = present.reduce(into: [:]) { $0[$1] = tree.read($1) }
        for (name, text) in network.certificates {
            try tree.write("/usr/local/share/ca-certificates/\(name)", text)
            for path in present where known[path]?.contains(text.trimmed) != true { try tree.append(path, text) }
            guard tree.isDirectory("/etc/ssl/certs") else { continue }
            let pem = "\(name.dropLast(4)).pem"
            try tree.link("/etc/ssl/certs/\(pem)", to: "/usr/local/share/ca-certificates/\(name)")
            // OpenSSL finds a certificate in a folder by the hash of its subject.
            if let hash = subjectHash(name) {
                let free = (0..<10).first { !tree.exists("/etc/ssl/certs/\(hash).\($0)") } ?? 9
                try tree.link("/etc/ssl/certs/\(hash).\(free)", to: pem)
            }
        }
        if present.isEmpty {
            // No bundle yet: a package that brings one takes the certificates up when it is installed.
            progress(BaseProgress("the base has no certificate bundle; install ca-certificates inside for TLS"))
        }
    }

    private func subjectHash(_ name: String) -> String? {
        let file = "/usr/local/share/ca-certificates/\(name)"
        guard findProgram("openssl") != nil,
            let output = try? runTool("openssl", ["x509", "-noout", "-hash", "-in", file])
        else { return nil }
        let hash = output.standardOutput.trimmed
        return hash.count == 8 && hash.allSatisfy(\.isHexDigit) ? String(hash) : nil
    }

    private func addProxies() throws {
        var added = network.proxies
        // Programs that bring certificates of their own look here.
        if !network.certificates.isEmpty, tree.exists(Self.bundle) {
            let names = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
            added += names.map { ($0, Self.bundle) }
        }
        guard !added.isEmpty else { return }
        let names = Set(added.map(\.name))
        let kept = lines("/etc/environment").filter { line in
            !names.contains(String(line.prefix { $0 != "=" }))
        }
        try writeLines("/etc/environment", kept + added.map { "\($0.name)=\"\($0.value)\"" })
    }

    private func addAptSettings() throws {
        if !network.aptSettings.isEmpty {
            try writeLines("/etc/apt/apt.conf.d/90sprite-host", network.aptSettings)
        }
        try HostArchives(tree: tree, network: network, progress: progress).install()
    }

    private func addPipSettings() throws {
        var values = network.pip.filter { key, value in
            // A path must mean something inside as well.
            !value.hasPrefix("/") || tree.exists(value)
        }
        if !network.certificates.isEmpty, tree.exists(Self.bundle), !values.contains(where: { $0.key == "cert" }) {
            values.append(("cert", Self.bundle))
        }
        guard !values.isEmpty else { return }
        let secret = values.contains { $0.value.contains("@") }
        try tree.write(
            "/etc/pip.conf", "[global]\n" + values.map { "\($0.key) = \($0.value)\n" }.joined(),
            mode: secret ? 0o640 : 0o644, group: secret ? Self.userID : 0)
    }
}
