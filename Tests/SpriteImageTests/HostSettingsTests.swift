// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Testing

@testable import SpriteImage

struct HostSettingsTests {
    @Test func `both forms of apt's sources are read`() {
        let lines = AptSource.parseLines(
            """
            # deb http://a/ x main
            deb [ arch=amd64 signed-by=/k.gpg trusted=yes ] https://u:p@m.example/debian bookworm main contrib # end
            deb-src http://a/ x main
            deb http://b/
            deb\thttp://c/d ./
            """)
        #expect(lines.count == 2)
        #expect(lines[0].uris == ["https://u:p@m.example/debian"] && lines[0].hasCredentials)
        #expect(lines[0].components == ["main", "contrib"] && lines[0].signedBy == "/k.gpg")
        #expect(lines[0].hosts == ["m.example"] && lines[0].options == ["Trusted": "yes"])
        #expect(lines[1].suites == ["./"] && !lines[1].hasCredentials)

        let stanzas = AptSource.parseStanzas(
            """
            Types: deb deb-src
            # a comment
            URIs: http://a/debian
             http://b/debian
            Suites: bookworm bookworm-updates
            Components: main
            Signed-By:
             -----BEGIN PGP PUBLIC KEY BLOCK-----
             .
             abc

            Types: deb
            URIs: http://off/
            Suites: bookworm
            Enabled: no

            Types: deb
            URIs: http://s/
            """)
        #expect(stanzas.count == 1)
        #expect(stanzas.first?.uris == ["http://a/debian", "http://b/debian"])
        #expect(stanzas.first?.text.contains("Signed-By: \n -----BEGIN PGP") == true)
        #expect(AptSource.parseStanzas(stanzas.first?.text ?? "") == stanzas)
    }

    @Test func `only archives of the suite over the network are taken over`() {
        func source(_ uri: String, _ suites: [String], _ components: [String] = ["main"]) -> AptSource {
            AptSource(uris: [uri], suites: suites, components: components)
        }
        let usable = HostArchives.usable(
            [
                source("http://m/", ["bookworm", "bookworm-backports", "bookworm-security"]),
                source("file:/srv", ["bookworm"]), source("http://t/", ["trixie"]),
                source("http://docker/", ["bookworm"], ["stable"]),
            ], suite: "bookworm")
        #expect(usable == [source("http://m/", ["bookworm", "bookworm-security"])])
    }

    @Test func `pip's settings are read from its INI files`() {
        let values = HostNetwork.parsePip(
            """
            [global]
            index-url = https://m/simple
            find_links =
                /opt/wheels
                https://wheels/
            password = x
            [list]
            timeout = 7
            """)
        #expect(values == ["index-url": "https://m/simple", "find-links": " /opt/wheels https://wheels/"])
    }

    @Test(arguments: [
        ("a\\nb", "a\nb"), ("\\\\x", "\\x"), ("\\303\\244", "ä"), ("end\\", "end\\"), ("\\12", "12"), ("", ""),
    ])
    func `names that tar escapes are read back`(escaped: String, plain: String) {
        #expect(unescape(escaped) == plain)
    }

    @Test func `the words of mmdebstrap become progress`() {
        let steps = Steps()
        let lines = BuildLines { steps.all.append($0.step) }
        for line in [
            "I: running apt-get update...", "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 http://m bookworm/main amd64 git amd64 1 [3 kB]", "Unpacking git (1) ...", "Setting up git (1) ...",
            "E: Unable to locate package nonsense",
        ] { lines.take(line) }
        #expect(
            steps.all == [
                "reading the package lists", "downloading packages (1)", "unpacking git (1 of 2)",
                "setting up git (1 of 2)",
            ])
        #expect(lines.explain(suite: "x").contains("Unable to locate package nonsense"))
    }

    private final class Steps: @unchecked Sendable {
        var all: [String] = []
    }
}
