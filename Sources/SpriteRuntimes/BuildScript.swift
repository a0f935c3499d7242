// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Recipe {
    /// The commands that root runs inside the throw-away sprite; a line `@@ TEXT` of its output names the step.
    package var buildScript: String {
        var lines = [
            "set -eu", "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1",
            "export PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 TZ=UTC",
            "step() { printf '@@ %s\\n' \"$*\"; }", "cd /",
        ]
        if !packages.isEmpty {
            lines += [
                "step 'reading the package lists'", "apt-get -q update",
                "step 'installing \(packages.count) packages'",
                // A sprite that a power cut would throw away need not write each file out before it goes on.
                "apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io install "
                    + "--no-install-recommends \(packages.joined(separator: " "))",
            ]
        }
        if !trees.isEmpty {
            lines += [
                "work=/var/tmp/sprite-trees", "mkdir -p $work",
                "command -v pip3 >/dev/null || { echo 'trees need python3-pip among the packages' >&2; exit 1; }",
            ]
        }
        // All at once: each waits for the network first and for a processor then.
        if !trees.isEmpty { lines.append("step 'fetching and unpacking \(trees.count) trees'; waiting=") }
        for (index, tree) in trees.enumerated() {
            let folder = tree.folder.map { "/\($0)" } ?? ""
            let place = "$work/\(index)"
            lines += [
                "(",
                "mkdir -p \(place)/w",
                "pip3 download -q --no-deps --only-binary :all: -d \(place)/w '\(tree.requirement)'",
                "python3 -c \"$unpack\" \(place)/w/*.whl \(place)/t",
                "test -d \(place)/t\(folder) || { ls \(place)/t >&2; echo 'no folder \(folder) in it' >&2; exit 1; }",
                "mkdir -p \(tree.path)", "rmdir \(tree.path)", "mv \(place)/t\(folder) \(tree.path)",
                "rm -rf \(place)",
                ") & waiting=\"$waiting $!\"",
            ]
        }
        if !trees.isEmpty { lines.append("for one in $waiting; do wait $one; done") }
        if !trees.isEmpty { lines.append("rm -rf $work") }
        if files != nil {
            lines += [
                "step 'copying files'", "tar -x -m -C / --no-same-owner -f /var/tmp/sprite-files.tar",
                "rm -f /var/tmp/sprite-files.tar",
            ]
        }
        lines += ["step 'running the script'", "(\n\(script)\n)", "step 'cleaning up'"]
        // What says when, or on which machine, is not part of a layer: two builds should be the same.
        lines += [
            "apt-get -q clean",
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/* /var/cache/debconf/*-old",
            "rm -rf /var/log/* /tmp/* /var/tmp/* /root/.cache /root/.npm /root/.config /var/cache/fontconfig/*",
            "rm -f /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-",
            "rm -f /var/lib/systemd/catalog/database /etc/.pwd.lock",
            "sync",
        ]
        return "unpack='\(Self.unpack)'\n" + lines.joined(separator: "\n") + "\n"
    }

    /// Everything that decides what a layer holds, apart from what the mirrors give.
    func inputs(base: BaseName, epoch: Int64, archive: [UInt8]) -> [UInt8] {
        Array("\(name)\n\(base)\n\(epoch)\n\(buildScript)\n\(profile.text)\n".utf8) + archive
    }

    /// A wheel is a zip; what belongs beside it in an installation lies in NAME.data.
    private static let unpack = """
        import os, sys, zipfile
        with zipfile.ZipFile(sys.argv[1]) as wheel:
            for entry in wheel.infolist():
                parts = entry.filename.split("/")
                if parts[0].endswith(".dist-info") or entry.is_dir(): continue
                scripts = parts[0].endswith(".data") and parts[1] == "scripts"
                if parts[0].endswith(".data"): parts = (["bin"] if scripts else []) + parts[2:]
                path = os.path.join(sys.argv[2], *parts)
                assert os.path.realpath(path).startswith(os.path.realpath(sys.argv[2]) + "/"), entry.filename
                os.makedirs(os.path.dirname(path), exist_ok=True)
                mode = entry.external_attr >> 16
                data = wheel.read(entry)
                if mode & 0o170000 == 0o120000:
                    os.symlink(data.decode(), path)
                    continue
                with open(path, "wb") as file: file.write(data)
                os.chmod(path, 0o755 if scripts or mode & 0o111 else 0o644)
        """
}
