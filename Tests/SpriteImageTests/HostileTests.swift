// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import SpriteDomain
import SpriteImage
import SpriteSystem
import Synchronization
import Testing

/// Images that try to write, read or delete outside of themselves.
@Suite(.enabled(if: geteuid() == 0, "needs root: archives keep their owners, and tar is locked in"))
struct HostileTests {
    /// Makes `victim/` in the work folder, runs the import and looks whether it is as before.
    private func attack(_ script: String, layers: [String], imports: Bool = true) async throws -> [String: String] {
        var found: [String: String] = [:]
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            let work = "\(fixture.folder)/work"
            try fixture.shell(#"tar -C "$1" -cf root.tar .; mkdir victim; echo safe > victim/file"#, [root])
            try fixture.shell(script, ["\(work)/victim"])
            let image = try fixture.layout("layout", layers: (["root.tar"] + layers).map { "\(work)/\($0)" })
            do {
                try await fixture.importImage(image, "hostile")
                #expect(imports)
            } catch let error as SpriteError {
                #expect(error.code == .invalidRequest)
                #expect(!imports, "\(error)")
            }
            for name in try fixture.shell(#"ls -A "$1""#, ["\(work)/victim"]).split(separator: "\n") {
                found[String(name)] = readText("\(work)/victim/\(name)")
            }
        }
        return found
    }

    private let untouched = ["file": "safe\n"]

    @Test func `names with .. stay inside`() async throws {
        let up = String(repeating: "../", count: 12)
        let result = try await attack(
            #"echo bad > bad; tar -P --transform "s,bad,\#(up)$1/file," -cf evil.tar bad"#, layers: ["evil.tar"],
            imports: false)
        #expect(result == untouched)
    }

    @Test func `absolute names stay inside`() async throws {
        let result = try await attack(
            #"echo bad > bad; tar -P --transform "s,bad,$1/file," -cf evil.tar bad"#, layers: ["evil.tar"])
        #expect(result == untouched)
    }

    @Test func `a link of the same layer is not followed out`() async throws {
        let script = #"""
            mkdir a b; ln -s "$1" a/out; tar -C a -cf evil.tar out
            mkdir b/out; echo bad > b/out/file; echo bad > b/out/new; tar -C b -rf evil.tar out/file out/new
            """#
        #expect(try await attack(script, layers: ["evil.tar"], imports: false) == untouched)
    }

    @Test func `a link of a lower layer is not followed out, absolute or not`() async throws {
        let up = String(repeating: "../", count: 12)
        let script = #"""
            mkdir a; ln -s "$1" a/out; ln -s "\#(up)$1" a/relative; tar -C a -cf first.tar .
            mkdir -p b/out b/relative; echo bad > b/out/file; echo bad > b/relative/new
            tar -C b -cf second.tar out/file relative/new
            """#
        #expect(try await attack(script, layers: ["first.tar", "second.tar"], imports: false) == untouched)
    }

    @Test func `a whiteout behind a link deletes nothing outside`() async throws {
        let script = #"""
            mkdir a; ln -s "$1" a/out; ln -s "$1" a/opaque; tar -C a -cf first.tar .
            mkdir -p b/out b/opaque; touch b/out/.wh.file b/opaque/.wh..wh..opq
            tar -C b -cf second.tar out/.wh.file opaque/.wh..wh..opq
            """#
        #expect(try await attack(script, layers: ["first.tar", "second.tar"]) == untouched)
    }

    @Test func `a whiteout with .. deletes nothing outside`() async throws {
        let up = String(repeating: "../", count: 12)
        let script = #"touch w; tar -P --transform "s,w,\#(up)$1/.wh.file," -cf evil.tar w"#
        #expect(try await attack(script, layers: ["evil.tar"], imports: false) == untouched)
    }

    @Test func `a hard link to a file of the host gives no way to it`() async throws {
        let script = #"""
            mkdir a; ln "$1/file" a/hard; echo x > a/bad
            tar -P --transform "s,^hard$,$1/file," -C a -cf evil.tar hard
            ln a/bad a/second; tar -P -C a -rf evil.tar --transform "s,^bad$,$1/file,;s,^second$,copy," bad second
            """#
        #expect(try await attack(script, layers: ["evil.tar"]) == untouched)
    }

    @Test func `links where the base's own files go are replaced, not followed`() async throws {
        let script = #"""
            mkdir -p a/etc a/home; ln -s "$1/file" a/etc/passwd; ln -s "$1" a/etc/sudoers.d; ln -s "$1" a/home/sprite
            ln -s "$1/file" a/etc/environment; ln -s "$1/file" a/etc/pip.conf; ln -s "$1" a/.sprite
            ln -s "$1/file" a/etc/machine-id; mkdir -p a/usr/local/share; ln -s "$1" a/usr/local/share/ca-certificates
            touch a/etc/sudoers; tar -C a -cf evil.tar .
            """#
        #expect(try await attack(script, layers: ["evil.tar"]) == untouched)
    }

    @Test func `an image folder cannot make a layer of the host's files`() async throws {
        try await ImageFixture.run { fixture in
            try fixture.shell(
                #"""
                mkdir save; echo secret > outside; ln -s "$PWD/outside" save/layer.tar
                echo '[{"Layers":["layer.tar","../outside"]}]' > save/manifest.json; tar -C save -cf save.tar .
                """#)
            await fixture.expectRefused("\(fixture.folder)/work/save.tar", "layer layer.tar is missing")
        }
    }

    @Test(arguments: ["mknod save/layer.tar c 1 5", "mkfifo save/layer.tar"])
    func `a layer without an end is none`(_ script: String) async throws {
        try await ImageFixture.run { fixture in
            try fixture.shell(
                #"""
                mkdir save; eval "$1"; echo '[{"Layers":["layer.tar"]}]' > save/manifest.json; tar -C save -cf save.tar .
                """#, [script])
            await fixture.expectRefused("\(fixture.folder)/work/save.tar", "layer layer.tar is missing, or no file")
        }
    }

    /// A library that leaves its mark when it is loaded, which the loader of a program locked into the image would do.
    @Test func `what a layer wants to be loaded is not loaded while the next one is unpacked`() async throws {
        let script = #"""
            cat > mark.c <<'END'
            #include <fcntl.h>
            __attribute__((constructor)) static void mark(void) { open("/loaded", O_CREAT | O_WRONLY, 0600); }
            END
            $(command -v cc || command -v clang) -shared -fPIC -o mark.so mark.c
            mkdir -p a/etc; cp mark.so a/mark.so; echo /mark.so > a/etc/ld.so.preload; tar -C a -cf first.tar .
            mkdir b; echo 1 > b/second; tar -C b -cf second.tar .
            """#
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            let work = "\(fixture.folder)/work"
            try fixture.shell(#"tar -C "$1" -cf root.tar ."#, [root])
            try fixture.shell(script, [])
            // It does leave a mark where it is loaded.
            try fixture.shell(#"LD_PRELOAD=$PWD/mark.so /bin/true; test -e /loaded; rm /loaded"#, [])
            let layers = ["root.tar", "first.tar", "second.tar"].map { "\(work)/\($0)" }
            try await fixture.importImage(try fixture.layout("layout", layers: layers), "hostile")
            let tree = fixture.store.path("hostile")
            #expect(access("\(tree)/second", F_OK) == 0)
            #expect(access("\(tree)/etc/ld.so.preload", F_OK) == 0, "it is the image's own, and stays")
            #expect(access("\(tree)/loaded", F_OK) != 0)
        }
    }

    /// What the kernel says of processes while an image is imported: whoever took tar over would have no more than that.
    @Test func `what reads an archive has no rights over the host`() async throws {
        let net = try #require(linkText("/proc/self/ns/net"))
        let pid = try #require(linkText("/proc/self/ns/pid"))
        let watch = Watch()
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            try fixture.shell(
                #"head -c 300M /dev/zero >"$1/zeros"; tar -C "$1" -cf - . | gzip -1 >root.tar.gz; rm "$1/zeros""#,
                [root])
            // A thread of its own: tasks of other tests may keep those of tasks busy.
            startThread { watch.run() }
            defer { watch.isOver.store(true, ordering: .releasing) }
            try await fixture.importImage("\(fixture.folder)/work/root.tar.gz", "large")
        }
        let seen = watch.seen.withLock { $0 }
        #expect(seen.keys.sorted() == ["decompress", "extract", "list"])
        for (role, facts) in seen {
            #expect(facts.network != net && facts.processes != pid, "\(role)")
            #expect(facts.lines["NoNewPrivs"] == "1", "\(role)")
            // CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD and SETFCAP, by their numbers in capability.h.
            let allowed = [0, 1, 3, 4, 27, 31].reduce(UInt64(0)) { $0 | 1 << $1 }
            let expected = role == "extract" ? allowed : 0
            for name in ["CapEff", "CapPrm", "CapBnd"] {
                #expect(facts.lines[name].flatMap { UInt64($0, radix: 16) } == expected, "\(role): \(name)")
            }
            let user = facts.lines["Uid"]?.split(separator: "\t").first
            #expect(user == (role == "extract" ? "0" : "65534"), "\(role)")
            #expect((facts.root == "/") == (role != "extract"), "\(role): \(facts.root)")
        }
    }
}

private final class Watch: Sendable {
    let isOver = Atomic(false)
    let seen = Mutex<[String: Facts]>([:])

    func run() {
        while !isOver.load(ordering: .acquiring) {
            for facts in Facts.all { seen.withLock { $0[facts.role] = facts } }
            usleep(5000)
        }
    }
}

/// A process that reads an archive.
private struct Facts: Sendable {
    var role: String
    var root: String
    var network: String
    var processes: String
    var lines: [String: String]

    static var all: [Facts] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { number in
            guard let arguments = try? readSmallFile("/proc/\(number)/cmdline").split(separator: "\0").map(String.init),
                let program = arguments.first.map({ $0.split(separator: "/").last ?? "" })
            else { return nil }
            let role: String
            if program == "loader", arguments.contains("--extract"), !arguments.contains("--no-new-privs") {
                role = "extract"
            } else if program == "tar", arguments.contains("--list") {
                role = "list"
            } else if program == "gzip", arguments.contains("-dc") {
                role = "decompress"
            } else {
                return nil
            }
            guard let status = try? readSmallFile("/proc/\(number)/status"),
                let root = linkText("/proc/\(number)/root"),
                let network = linkText("/proc/\(number)/ns/net"), let processes = linkText("/proc/\(number)/ns/pid")
            else { return nil }
            let lines = status.split(separator: "\n").map { $0.split(separator: ":\t", maxSplits: 1).map(String.init) }
            return Facts(
                role: role, root: root, network: network, processes: processes,
                lines: Dictionary(lines.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 }))
        }
    }
}

private func linkText(_ path: String) -> String? {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = readlink(path, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
}
