// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What `{"include": "defaults"}` stands for: where developers and agents get packages, sources and models.
///
/// docs/network-policy.md lists the same; a test compares the two.
package enum DefaultNames {
    /// Domains as rules write them.
    package static let all = packages + sources + models

    private static let packages = [
        // Distributions.
        "deb.debian.org", "security.debian.org", "ftp.debian.org", "snapshot.debian.org", "archive.ubuntu.com",
        "security.ubuntu.com", "ports.ubuntu.com", "*.archive.ubuntu.com", "ppa.launchpadcontent.net",
        "dl-cdn.alpinelinux.org",
        // Languages.
        "pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "registry.yarnpkg.com", "nodejs.org",
        "jsr.io", "npm.jsr.io", "deno.land", "bun.sh", "proxy.golang.org", "sum.golang.org", "go.dev", "dl.google.com",
        "index.crates.io", "crates.io", "static.crates.io", "static.rust-lang.org", "sh.rustup.rs", "rubygems.org",
        "index.rubygems.org", "repo.maven.apache.org", "repo1.maven.org", "plugins.gradle.org", "services.gradle.org",
        "api.nuget.org", "packagist.org", "repo.packagist.org", "getcomposer.org", "hex.pm", "repo.hex.pm",
        "builds.hex.pm", "cran.r-project.org", "cloud.r-project.org", "hackage.haskell.org", "download.swift.org",
        "conda.anaconda.org", "repo.anaconda.com", "astral.sh",
        // Images.
        "registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com", "ghcr.io",
        "pkg-containers.githubusercontent.com", "quay.io", "*.quay.io",
    ]

    private static let sources = [
        "github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com", "gitlab.com",
        "registry.gitlab.com", "bitbucket.org", "api.bitbucket.org", "codeberg.org", "git.sr.ht",
    ]

    private static let models = [
        "api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com", "api.mistral.ai", "api.cohere.com",
        "api.groq.com", "api.together.xyz", "openrouter.ai", "api.deepseek.com", "api.x.ai", "huggingface.co",
        "*.huggingface.co", "*.hf.co",
    ]
}
