// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// The files at `/.sprite` inside every sprite.
///
/// One folder per sprite on the host, shown read-only inside: nobody inside can change it, and the daemon can put
/// mounts for checkpoints into it. The program lies in a tmpfs of our own, because the run directory is
/// mounted noexec on many hosts.
struct GuestFiles: Sendable {
    let runDirectory: String

    private var shared: String { "\(runDirectory)/guest" }
    /// Shown at /.sprite/bin.
    var programs: String { "\(runDirectory)/guest/bin" }

    /// Shown at /.sprite.
    func folder(_ id: SpriteID) -> String { "\(runDirectory)/guests/\(id)" }

    func checkpoint(_ id: SpriteID, _ name: String) -> String { "\(folder(id))/checkpoints/\(name)" }

    /// Programs that clients of the API expect by these names.
    private static let scripts = [
        (
            "sprite-console",
            #"""
            #!/bin/sh
            # The login shell of the user; /bin/sh is what every base has.
            for s in "$SHELL" /bin/bash /bin/sh; do [ -x "$s" ] && exec "$s" -l "$@"; done

            """#
        ),
        (
            "sprite-browser",
            #"""
            #!/bin/sh
            # Asks whoever shows this terminal to open a page, and to forward ports for it.
            if [ $# -lt 1 ]; then
                echo "Usage: sprite-browser URL [PORT...]" >&2
                exit 2
            fi
            url=$1
            shift
            case $url in
            http://* | https://*) ;;
            *)
                echo "sprite-browser: not a web address: $url" >&2
                exit 2
                ;;
            esac
            if ! (: >/dev/tty) 2>/dev/null; then
                echo "sprite-browser: no terminal; open $url yourself" >&2
                exit 1
            fi
            printf '\033]9999;browser-open;%s;%s\033\\' "$url" "$(IFS=,; echo "$*")" >/dev/tty

            """#
        ),
    ]

    /// Copies the program once for all sprites. Sandboxes of an earlier daemon go on with the copy they were given.
    func prepare(binary: String) throws {
        try makeDirectory(shared)
        var own = stat()
        var above = stat()
        try system("look at \(shared)") { stat(shared, &own) }
        try system("look at \(runDirectory)") { stat(runDirectory, &above) }
        if own.st_dev == above.st_dev {
            try checked(
                clinux_mount("sprite-guest", shared, "tmpfs", UInt(MS_NOSUID | MS_NODEV), "mode=755,size=256m"),
                "mount tmpfs on \(shared)")
        }
        let owner = UserMapping.hostFirst
        try makeDirectory(programs, owner: owner)
        try copyProgram(from: binary, to: "\(programs)/sprite-env")
        for (name, text) in Self.scripts {
            let path = "\(programs)/\(name)"
            try writeFileAtomically(path, text, mode: 0o755)
            try system("set owner of \(path)") { chown(path, owner, owner) }
        }
        try makeDirectory("\(runDirectory)/guests", mode: 0o711)
        try makeDirectory("\(runDirectory)/texts")
        let texts = [("version.txt", guestVersion + "\n"), ("network.json", #"{"rules":[]}"# + "\n")]
        for (name, text) in texts + GuestGuide.texts {
            let path = "\(runDirectory)/texts/\(name)"
            try writeFileAtomically(path, text, mode: 0o644)
            try system("set owner of \(path)") { chown(path, owner, owner) }
        }
    }

    func make(_ id: SpriteID) throws {
        let folder = folder(id)
        let owner = UserMapping.hostFirst
        try makeDirectory(folder, owner: owner)
        try makeDirectory("\(folder)/bin", owner: owner)
        try makeDirectory("\(folder)/checkpoints", owner: owner)
        try makeDirectory("\(folder)/policy", owner: owner)
        let texts = [("version.txt", ""), ("network.json", "policy/")] + GuestGuide.texts.map { ($0.name, "") }
        for (name, place) in texts {
            if link("\(runDirectory)/texts/\(name)", "\(folder)/\(place)\(name)") < 0, errno != EEXIST {
                throw SystemError(errno, "link \(folder)/\(place)\(name)")
            }
        }
    }

    /// Replaces the policy that is shown; the link to the text that all sprites share goes.
    func showPolicy(_ id: SpriteID, _ text: String) throws {
        let path = "\(folder(id))/policy/network.json"
        try makeDirectory("\(folder(id))/policy", owner: UserMapping.hostFirst)
        try writeFileAtomically(path, text + "\n", mode: 0o644)
        try system("set owner of \(path)") { chown(path, UserMapping.hostFirst, UserMapping.hostFirst) }
    }

    /// Shows what programs need to trust the broker. The files stay when the last secret goes: a program that was told
    /// of them would trust nobody without.
    func showAuthority(_ id: SpriteID, _ certificate: String) throws {
        let known = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        let common = known.lazy.compactMap { try? readSmallFile($0, bytesMax: 4 << 20) }.first ?? ""
        for (name, text) in [("ca.crt", certificate), ("ca-bundle.crt", common + "\n" + certificate)] {
            let path = "\(folder(id))/\(name)"
            try writeFileAtomically(path, text, mode: 0o644)
            try system("set owner of \(path)") { chown(path, UserMapping.hostFirst, UserMapping.hostFirst) }
        }
    }

    func remove(_ id: SpriteID) throws { try removeTree(folder(id)) }

    func ids() throws -> [String] { try directoryEntries("\(runDirectory)/guests") }

    private func copyProgram(from source: String, to target: String) throws {
        let input = try Descriptor.open(source, O_RDONLY)
        let temporary = target + ".new"
        unlink(temporary)
        let output = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o755)
        while true {
            // Page by page: written at once, the page cache keeps the file in large folios, and then every idle PID 1
            // that maps it counts 4 MB more as resident.
            let count = try system("copy \(source)") { Int32(sendfile(output.number, input.number, nil, 4096)) }
            if count == 0 { break }
        }
        try system("set permissions") { fchmod(output.number, 0o755) }
        try system("set owner") { fchown(output.number, UserMapping.hostFirst, UserMapping.hostFirst) }
        try system("rename \(temporary)") { rename(temporary, target) }
    }
}

let guestVersion = "0.1.0"
