// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem

/// What to build with mmdebstrap.
package struct BuildOptions: Sendable {
    /// Nil: `<distro>-<suite>`.
    package var name: BaseName?
    /// `debian` or `ubuntu`; nil: that of the host.
    package var distro: String?
    /// Such as `bookworm`; nil: that of the host.
    package var suite: String?
    /// URL of the archive; nil: what the host uses, or the distribution's own for another suite.
    package var mirror: String?
    /// In addition to the usual ones.
    package var packages: [String]
    /// What shall run as PID 1 in its sprites; its packages are added.
    package var initSystem: InitSystem

    package init(
        name: BaseName? = nil, distro: String? = nil, suite: String? = nil, mirror: String? = nil,
        packages: [String] = [], initSystem: InitSystem = .sprite
    ) {
        self.initSystem = initSystem
        self.name = name
        self.distro = distro
        self.suite = suite
        self.mirror = mirror
        self.packages = packages
    }
}

/// Builds a Debian or Ubuntu root filesystem from packages.
struct DebianBuilder: Sendable {
    let distro: String
    let suite: String
    let sources: [AptSource]
    let packages: [String]

    /// Enough to work in at once; everything else is one `apt-get install` away.
    static let usualPackages = [
        "bash-completion", "ca-certificates", "curl", "git", "iproute2", "iputils-ping", "less", "netbase",
        "openssh-client", "procps", "python3", "python3-pip", "python3-venv", "sudo", "vim", "wget", "xz-utils",
    ]

    init(_ options: BuildOptions, _ host: HostNetwork) throws {
        guard findProgram("mmdebstrap") != nil else {
            throw SpriteError(
                .unsupported, "cannot build base: mmdebstrap is not installed; install the package mmdebstrap")
        }
        distro = options.distro ?? host.release.distro ?? "debian"
        guard distro == "debian" || distro == "ubuntu" else {
            throw SpriteError(
                .invalidRequest, "cannot build base: distribution '\(distro)' is neither debian nor ubuntu; name one")
        }
        let hostSuite = host.release.distro == distro ? host.release.suite : nil
        suite = options.suite ?? hostSuite ?? (distro == "debian" ? "bookworm" : "noble")
        let words = [suite, options.mirror ?? ""] + options.packages
        guard !suite.isEmpty, words.allSatisfy({ !$0.hasPrefix("-") && !$0.contains(where: \.isWhitespace) }) else {
            throw SpriteError(.invalidRequest, "cannot build base: a suite, mirror or package name holds blanks or '-'")
        }
        let wanted = Self.usualPackages + Self.packages(of: options.initSystem) + options.packages
        packages = wanted.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
        let components = distro == "debian" ? ["main"] : ["main", "universe"]
        let keyring = Self.keyring(distro)
        if let mirror = options.mirror {
            sources = [AptSource(uris: [mirror], suites: [suite], components: components, signedBy: keyring)]
        } else {
            let ofHost = hostSuite == suite ? HostArchives.usable(host.sources, suite: suite) : []
            sources = ofHost.isEmpty ? Self.official(distro, suite, components, keyring) : ofHost
        }
    }

    static func packages(of initSystem: InitSystem) -> [String] {
        switch initSystem {
        case .sprite: []
        // With the modules that give every user a manager and a bus of their own.
        case .systemd: ["systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session"]
        case .openrc: ["openrc"]
        case .s6: ["s6"]
        }
    }

    private static func keyring(_ distro: String) -> String? {
        let paths = ["/usr/share/keyrings/\(distro)-archive-keyring.gpg"]
        return paths.first { access($0, R_OK) == 0 }
    }

    private static func official(
        _ distro: String, _ suite: String, _ components: [String], _ keyring: String?
    ) -> [AptSource] {
        func source(_ uri: String, _ suites: [String]) -> AptSource {
            AptSource(uris: [uri], suites: suites, components: components, signedBy: keyring)
        }
        if distro == "debian" {
            let rolling = ["sid", "unstable", "experimental"].contains(suite)
            let main = "http://deb.debian.org/debian"
            if rolling { return [source(main, [suite])] }
            return [
                source(main, [suite, "\(suite)-updates"]),
                source("http://deb.debian.org/debian-security", ["\(suite)-security"]),
            ]
        }
        guard hostArchitecture() == "amd64" else {
            return [source("http://ports.ubuntu.com/ubuntu-ports", [suite, "\(suite)-updates", "\(suite)-security"])]
        }
        return [
            source("http://archive.ubuntu.com/ubuntu", [suite, "\(suite)-updates"]),
            source("http://security.ubuntu.com/ubuntu", ["\(suite)-security"]),
        ]
    }

    /// Fills an empty folder; about 40 s on two cores, most of it dpkg.
    func build(_ workspace: BaseWorkspace, _ host: HostNetwork, _ progress: @escaping BaseProgressHandler) throws {
        if distro == "ubuntu", Self.keyring(distro) == nil, host.release.distro != "ubuntu" {
            throw SpriteError(
                .unsupported,
                "cannot build base: the keys of ubuntu are not on this host; install the package ubuntu-keyring "
                    + "(ubuntu-archive-keyring on newer Debian)")
        }
        let list = workspace.path + "/.sources-\(SpriteID.random()).sources"
        try writeSmallFile(list, sources.map(\.text).joined(separator: "\n"), flags: O_WRONLY | O_CREAT | O_EXCL)
        // mmdebstrap wants an empty folder: the list goes beside the workspace's content by an open descriptor.
        let file = try Descriptor.open(list, O_RDONLY)
        unlink(list)
        var arguments = [
            "--mode=root", "--variant=minbase", "--format=directory", "--verbose",
            "--include=\(packages.joined(separator: ","))", "--dpkgopt=force-unsafe-io",
            "--aptopt=Acquire::Languages \"none\"",
        ]
        for folder in ["man", "info", "lintian", "locale"] {
            arguments.append("--dpkgopt=path-exclude=/usr/share/\(folder)/*")
        }
        arguments += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        arguments += host.aptSettings.map { "--aptopt=\($0)" }
        arguments += [suite, workspace.path]
        let lines = BuildLines(progress)
        var environment = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TMPDIR=/tmp",
            "DEBIAN_FRONTEND=noninteractive",
        ]
        environment += host.proxies.map { "\($0.name)=\($0.value)" }
        do {
            try runTool(
                "sh", ["-c", #"exec mmdebstrap "$@" - <&3 >&2"#, "sh"] + arguments, environment: environment,
                descriptors: [file.number, workspace.lock], onLine: { lines.take($0) })
        } catch let failure as ToolFailure {
            throw SpriteError(.internalError, lines.explain(suite: suite), cause: failure)
        }
        try tidy(workspace)
    }

    /// The settings above are for building; packages installed in a sprite come whole.
    private func tidy(_ workspace: BaseWorkspace) throws {
        let tree = try RootTree(workspace.path)
        for file in ["/etc/dpkg/dpkg.cfg.d/99mmdebstrap", "/etc/apt/apt.conf.d/99mmdebstrap"] { tree.remove(file) }
        for folder in ["/var/lib/apt/lists", "/var/cache/apt/archives", "/var/log/apt"] {
            try tree.emptyDirectory(folder)
        }
        for file in ["/var/cache/apt/pkgcache.bin", "/var/cache/apt/srcpkgcache.bin", "/var/log/dpkg.log"] {
            tree.remove(file)
        }
        try tree.makeDirectory("/var/cache/apt/archives/partial", mode: 0o700)
        try tree.makeDirectory("/var/lib/apt/lists/partial", mode: 0o700)
        // An archive that is not the host's stays what the base reads from.
        for old in ["0000main.sources", "0000main.list"] { tree.remove("/etc/apt/sources.list.d/\(old)") }
        try tree.write("/etc/apt/sources.list", "")
        try tree.write(
            "/etc/apt/sources.list.d/\(distro).sources", sources.map(\.text).joined(separator: "\n"))
    }
}
