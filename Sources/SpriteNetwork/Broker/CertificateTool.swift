// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSystem

/// Makes certificates with the `openssl` program. Keys are never in arguments, nor in files with a name.
enum CertificateTool {
    /// Signs for one sprite only. Blocks.
    static func makeAuthority(named name: String) throws -> SpriteAuthority {
        let made = try request(
            subject: name, days: 3650, authority: nil,
            extensions: "basicConstraints = critical, CA:TRUE, pathlen:0\nkeyUsage = critical, keyCertSign, cRLSign")
        return SpriteAuthority(certificate: made.certificate, key: made.key)
    }

    /// A certificate for one host with its key, as PEM. Blocks.
    static func makeLeaf(for host: String, by authority: SpriteAuthority) throws -> (certificate: String, key: String) {
        try request(
            subject: "sprite broker", days: leafDays, authority: authority,
            extensions: """
                basicConstraints = critical, CA:FALSE
                keyUsage = critical, digitalSignature
                extendedKeyUsage = serverAuth
                authorityKeyIdentifier = keyid
                subjectAltName = DNS:\(host)
                """)
    }

    static let leafDays = 30

    private static func request(
        subject: String, days: Int, authority: SpriteAuthority?, extensions: String
    ) throws -> (certificate: String, key: String) {
        let settings = try memoryFile(
            """
            [req]
            distinguished_name = name
            x509_extensions = extensions
            prompt = no
            [name]
            CN = \(subject)
            [extensions]
            subjectKeyIdentifier = hash
            \(extensions)

            """)
        var arguments = [
            "req", "-x509", "-config", "/proc/self/fd/3", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-days", "\(days)", "-keyout", "/dev/stdout", "-out",
            "/dev/stdout",
        ]
        var files = [settings]
        if let authority {
            files.append(try memoryFile(authority.certificate + authority.key))
            arguments += ["-CA", "/proc/self/fd/4", "-CAkey", "/proc/self/fd/4"]
        }
        let output = try runTool("openssl", arguments, descriptors: files.map(\.number)).standardOutput
        withExtendedLifetime(files) {}
        guard let certificate = block("CERTIFICATE", of: output), let key = block("PRIVATE KEY", of: output) else {
            throw SpriteError(.internalError, "openssl printed no certificate with its key")
        }
        return (certificate, key)
    }

    private static func block(_ name: String, of text: String) -> String? {
        guard let begin = text.firstRange(of: "-----BEGIN \(name)-----"),
            let end = text[begin.upperBound...].firstRange(of: "-----END \(name)-----")
        else { return nil }
        return String(text[begin.lowerBound..<end.upperBound]) + "\n"
    }
}
