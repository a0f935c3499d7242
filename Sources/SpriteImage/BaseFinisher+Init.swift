// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSystem

/// What an init system needs to feel at home in a sprite.
extension BaseFinisher {
    func addInitSettings() throws {
        switch initSystem {
        case .sprite: return
        case .systemd: try addSystemdSettings()
        case .openrc: try addOpenRCSettings()
        case .s6: try addS6Settings()
        }
        let needed =
            switch initSystem {
            case .sprite, .systemd: ["/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/sbin/init"]
            case .openrc: ["/sbin/openrc-init", "/usr/sbin/openrc-init", "/sbin/init"]
            case .s6: ["/usr/bin/s6-svscan", "/bin/s6-svscan", "/sbin/init"]
            }
        guard needed.contains(where: tree.exists) else {
            throw SpriteError(
                .invalidRequest,
                "cannot make a base with \(initSystem.rawValue): \(needed[0]) is missing in it; install "
                    + "\(DebianBuilder.packages(of: initSystem).joined(separator: ", ")) first, or leave --init out")
        }
    }

    private func addSystemdSettings() throws {
        let known = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]
        if !tree.exists("/sbin/init"), let program = known.first(where: tree.exists) {
            try tree.link("/sbin/init", to: program)
        }
        try tree.makeDirectory("/etc/systemd/system/service.d")
        try tree.write(
            "/etc/systemd/system/service.d/50-sprite.conf",
            """
            # A sprite that nobody uses is held still, for hours perhaps; a watchdog would take that for a hang of the
            # service and kill it on waking. A unit's own drop-in with a later name brings its watchdog back.
            [Service]
            WatchdogSec=0

            """)
        try tree.makeDirectory("/etc/systemd/journald.conf.d")
        try tree.write(
            "/etc/systemd/journald.conf.d/50-sprite.conf",
            """
            # Every record goes to the sprite's logs on the host as well; what is kept here is part of each checkpoint.
            [Journal]
            Storage=persistent
            SystemMaxUse=64M
            RuntimeMaxUse=16M

            """)
        // So that units of the user's own start with the sprite, as those of the system do.
        try tree.makeDirectory("/var/lib/systemd/linger")
        try tree.write("/var/lib/systemd/linger/\(Self.user)", "")
    }

    private func addOpenRCSettings() throws {
        if !tree.exists("/sbin/init"), tree.exists("/sbin/openrc-init") {
            try tree.link("/sbin/init", to: "openrc-init")
        }
        // These do not say it, and can only fail.
        for name in Self.hardwareServices { tree.remove("/etc/runlevels/sysinit/\(name)") }
        try tree.makeDirectory("/etc/rc.conf.d")
        try tree.write(
            "/etc/rc.conf.d/50-sprite.conf",
            """
            # A sprite has no hardware to look after; services that do so say that they are not for this.
            rc_sys="lxc"
            rc_controller_cgroups="NO"
            # The console is read by the sprite's logs.
            rc_logger="NO"
            rc_nocolor="YES"

            """)
    }

    private static let hardwareServices = ["cgroups", "hwclock.sh", "procps"]

    private func addS6Settings() throws {
        try tree.makeDirectory("/etc/s6/service")
        // Images of their own making may have another way to become PID 1.
        if tree.exists("/etc/s6/init") || (tree.exists("/sbin/init") && !tree.exists("/usr/bin/s6-svscan")) { return }
        try tree.write("/etc/s6/init", s6Init, mode: 0o755)
        if !tree.exists("/sbin/init") { try tree.link("/sbin/init", to: "/etc/s6/init") }
    }
}

/// Debian has s6 without a program that makes it PID 1; its authors' documentation names these steps.
private let s6Init = #"""
    #!/bin/sh
    # Process 1 of this sprite: sets up the scan directory in memory and becomes s6-svscan.
    #
    # A service is a directory /etc/s6/service/NAME with an executable file 'run', and optionally 'finish', 'down' and
    # 'log/run'. All are copied to /run/service at the start. To add one to a running sprite:
    #     cp -a /etc/s6/service/NAME /run/service/ && s6-svscanctl -a /run/service
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export PATH
    umask 022
    mkdir -p /run/service/.s6-svscan /run/lock
    cp -a /etc/s6/service/. /run/service/
    # Where s6-svscan goes when it has stopped everything; PID 1 that ends is a sprite that ends.
    for name in finish crash; do
        printf '#!/bin/sh\nexit 0\n' > /run/service/.s6-svscan/$name
        chmod 755 /run/service/.s6-svscan/$name
    done
    # Things to do once, before the services.
    [ ! -x /etc/rc.local ] || /etc/rc.local
    exec s6-svscan -t 0 /run/service

    """#
