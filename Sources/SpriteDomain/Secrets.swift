// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A secret that requests of one sprite to one host carry, and that nothing inside can read.
package struct BrokeredSecret: Sendable, Hashable {
    package var id: String
    /// The one host that gets it; in lower case.
    package var host: String
    /// The header that carries it; in lower case.
    package var header: String
    /// What the header says, with `{}` in the place of the value.
    package var format: String
    /// Never leaves the daemon but to the host.
    package var value: String
    package var createdAt: Timestamp
    /// To the minute.
    package var lastUsedAt: Timestamp?

    package init(
        id: String, host: String, header: String, format: String, value: String, createdAt: Timestamp,
        lastUsedAt: Timestamp? = nil
    ) {
        self.id = id
        self.host = host
        self.header = header
        self.format = format
        self.value = value
        self.createdAt = createdAt
        self.lastUsedAt = lastUsedAt
    }

    /// What the header says.
    package var headerValue: String { format.replacing("{}", with: value) }
}

/// A certificate authority that one sprite trusts, and nobody else.
package struct SpriteAuthority: Sendable, Hashable {
    /// PEM.
    package var certificate: String
    /// PEM.
    package var key: String
    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// What the daemon does for one sprite's requests.
package struct Brokerage: Sendable, Hashable {
    package var authority: SpriteAuthority
    package var secrets: [BrokeredSecret]
    package init(authority: SpriteAuthority, secrets: [BrokeredSecret]) {
        self.authority = authority
        self.secrets = secrets
    }
}

/// What programs inside are told about the sprite's authority.
package enum BrokerEnvironment {
    /// The authority alone, for programs that add it to what they trust.
    package static let certificatePath = "/.sprite/ca.crt"
    /// The authority and the public ones, for programs that trust one file.
    package static let bundlePath = "/.sprite/ca-bundle.crt"

    package static let variables: [(name: String, value: String)] =
        [("NODE_EXTRA_CA_CERTS", certificatePath)]
        + [
            "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE",
            "CARGO_HTTP_CAINFO", "DENO_CERT",
        ].map { ($0, bundlePath) }

    /// An environment under which commands find the authority; what the sprite sets itself stays.
    package static func adding(to environment: [String: String]) -> [String: String] {
        variables.reduce(into: environment) { result, one in
            if result[one.name] == nil { result[one.name] = one.value }
        }
    }
}
