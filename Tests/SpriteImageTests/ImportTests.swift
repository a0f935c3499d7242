// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteImage
import SpriteSystem
import Testing

@Suite(.enabled(if: geteuid() == 0, "needs root: archives keep their owners, and tar is locked in"))
struct ImportTests {
    @Test(arguments: ["cat", "gzip", "zstd", "xz", "bzip2"])
    func `a tar of a root becomes a base`(compressor: String) async throws {
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            try fixture.shell(#"mknod "$1/etc/disk" b 8 0; mkfifo "$1/etc/fifo"; chown 7:8 "$1/etc/fifo""#, [root])
            try fixture.shell(#"tar -C "$1" -c . | "$2" > root.tar"#, [root, compressor])
            let info = try await fixture.importImage("\(fixture.folder)/work/root.tar", "small")
            let base = fixture.store.path("small")
            // What a terminal would take for a command is left out.
            #expect(info.distro == "small" && info.version == "7" && (info.sizeBytes ?? 0) > 100_000)
            #expect(try await fixture.catalog.list() == [info])
            let passwd = readText("\(base)/etc/passwd") ?? ""
            #expect(passwd.contains("\nsprite:x:1000:1000:Sprite:/home/sprite:/bin/sh\nnode:x:1000"))
            #expect(readText("\(base)/etc/group")?.contains("sprite:x:1000:") == true)
            #expect(access("\(base)/etc/hostname", F_OK) != 0)
            #expect(access("\(base)/etc/disk", F_OK) != 0)
            var facts = stat()
            #expect(lstat("\(base)/etc/fifo", &facts) == 0 && facts.st_uid == 7 && facts.st_gid == 8)
            #expect(stat("\(base)/home/sprite", &facts) == 0 && facts.st_uid == 1000)
            #expect(access("\(base)/.sprite", F_OK) == 0)
            #expect(try runTool("ls", ["-A", base]).standardOutput.contains(".sprite-") == false)
        }
    }

    @Test(arguments: ["folder", "tar"])
    func `layers of an OCI image lie on each other, with whiteouts`(form: String) async throws {
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            try fixture.shell(
                #"""
                mkdir -p "$1/gone" "$1/opaque/deep" "$1/tree" "$1/swap"
                touch "$1/gone/a" "$1/kept" "$1/opaque/old" "$1/opaque/deep/old" "$1/tree/x" "$1/swap/x"
                ln -s /tree "$1/link"
                tar -C "$1" -c . | gzip > one.tar.gz
                mkdir -p two/opaque two/var two/link/y two/gone
                touch two/.wh.gone two/opaque/.wh..wh..opq two/opaque/new two/opaque/.wh.kept
                echo file > two/swap; touch 'two/.wh.name with \ and ä'
                rmdir two/gone
                tar -C two -c . | zstd -q > two.tar.zst
                mkdir -p three/tree; echo z > three/tree/z; touch three/tree/.wh.x
                tar -C three -cf three.tar tree
                """#, [root])
            let work = "\(fixture.folder)/work"
            let layers = ["one.tar.gz", "two.tar.zst", "three.tar"].map { "\(work)/\($0)" }
            var image = try fixture.layout("layout", layers: layers, architecture: "amd64")
            if form == "tar" {
                try fixture.shell("tar -C layout -cf layout.tar .")
                image = "\(work)/layout.tar"
            }
            try await fixture.importImage(image, "layered")
            let base = fixture.store.path("layered")
            let list = try fixture.shell(
                #"cd "$1"; find gone kept opaque tree link swap var/run -printf '%p %y\n' 2>/dev/null | sort || true"#,
                [base])
            #expect(
                list == """
                    kept f
                    link d
                    link/y d
                    opaque d
                    opaque/new f
                    swap f
                    tree d
                    tree/z f
                    var/run l

                    """)
        }
    }

    @Test(arguments: [false, true])
    func `an archive of docker save becomes a base`(isLayout: Bool) async throws {
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            let work = "\(fixture.folder)/work"
            try fixture.shell(
                #"""
                mkdir -p save/aa save/bb
                tar -C "$1" -cf save/aa/layer.tar .
                mkdir two; echo 2 > two/second; tar -C two -cf two.tar .
                ln -s ../../two.tar nowhere; cp two.tar save/bb/real.tar; ln -s real.tar save/bb/layer.tar
                echo '[{"Config":"c.json","RepoTags":["a:b"],"Layers":["aa/layer.tar","bb/layer.tar"]}]' \
                    > save/manifest.json
                """#, [root])
            if isLayout {
                _ = try fixture.layout("save", layers: ["\(work)/save/aa/layer.tar", "\(work)/two.tar"])
            }
            try fixture.shell("tar -C save -c . | gzip > save.tar.gz")
            try await fixture.importImage("\(work)/save.tar.gz", "saved")
            #expect(readText("\(fixture.store.path("saved"))/second") == "2\n")
        }
    }

    @Test func `images that cannot be used are refused in words`() async throws {
        try await ImageFixture.run { fixture in
            let work = "\(fixture.folder)/work"
            let root = try fixture.root("root")
            try fixture.shell(
                #"""
                tar -C "$1" -cf root.tar .
                head -c 20000 root.tar > cut.tar; gzip -c root.tar | head -c 5000 > cut.tar.gz
                mkdir empty; tar -C empty -cf empty.tar .; head -c 9000 /dev/urandom > noise
                mkdir two; echo '[{"Layers":[]},{"Layers":[],"RepoTags":["x:y"]}]' > two/manifest.json
                tar -C two -cf two.tar .
                """#, [root])
            await fixture.expectRefused("\(work)/none", "No such file")
            await fixture.expectRefused("\(work)/cut.tar", "damaged")
            await fixture.expectRefused("\(work)/cut.tar.gz", "damaged")
            await fixture.expectRefused("\(work)/empty.tar", "no /bin/sh")
            await fixture.expectRefused("\(work)/noise", "damaged")
            await fixture.expectRefused("\(work)/two.tar", "2 images (x:y)")
            await fixture.expectRefused("\(work)/empty", "neither index.json")
            let foreign = try fixture.layout("foreign", layers: ["\(work)/root.tar"], architecture: "s390x")
            await fixture.expectRefused(foreign, "it is for s390x")
            let damaged = try fixture.layout("damaged", layers: ["\(work)/root.tar"])
            try fixture.shell("for f in damaged/blobs/sha256/*; do echo x >> $f; done")
            await fixture.expectRefused(damaged, "does not have the content it should")
            for manifests in ["[]", #"[{"digest":"sha256:../../etc/passwd"}]"#, "7", #"[{"digest":"sha256:00"}]"#] {
                let text = #"{"manifests":\#(manifests)}"#
                try fixture.shell(#"mkdir -p odd; printf '%s' "$1" > odd/index.json"#, [text])
                await fixture.expectRefused("\(work)/odd", "cannot import image")
            }
        }
    }

    @Test func `a base in use is not removed`() async throws {
        try await ImageFixture.run { fixture in
            let root = try fixture.root("root")
            try fixture.shell(#"tar -C "$1" -cf root.tar ."#, [root])
            try await fixture.importImage("\(fixture.folder)/work/root.tar", "small")
            let name = try BaseName("small")
            let error = await #expect(throws: SpriteError.self) {
                try await fixture.catalog.remove(name, inUse: [name])
            }
            #expect(error?.code == .conflict)
            try await fixture.catalog.remove(name, inUse: [])
            let left = try await fixture.catalog.list()
            #expect(left.isEmpty)
        }
    }
}
