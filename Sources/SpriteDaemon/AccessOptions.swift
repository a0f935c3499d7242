// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Glibc
import Logging
import ServiceLifecycle
import SpriteDomain
import SpriteServer
import SpriteSystem

/// Who may reach the API, and how.
struct AccessOptions: ParsableArguments {
    @Option(name: .customLong("tls-cert"), help: "A PEM file with the certificate and its chain; read again on change.")
    var tlsCertificate: String?
    @Option(name: .customLong("tls-key"), help: "A PEM file with its key.")
    var tlsKey: String?
    @Option(
        name: .customLong("allowed-host"),
        help: "A name that clients use for this server, or .DOMAIN for all below; repeatable.")
    var allowedHosts: [String] = []
    @Option(
        name: .customLong("allowed-origin"),
        help: "A site whose pages may use this server, such as https://app.example.org; repeatable.")
    var allowedOrigins: [String] = []
    @Option(name: .customLong("max-connections"), help: "Connections at once. (default: \(Limits.connectionsMax))")
    var connectionsMax: String?
    @Option(
        name: .customLong("max-connections-per-address"),
        help: "Of one client address. (default: \(Limits.connectionsPerAddressMax))")
    var connectionsPerAddressMax: String?

    func merge(into settings: inout Configuration) {
        settings.tlsCertificate = tlsCertificate ?? settings.tlsCertificate
        settings.tlsKey = tlsKey ?? settings.tlsKey
        if !allowedHosts.isEmpty { settings.allowedHosts = allowedHosts.joined(separator: ",") }
        if !allowedOrigins.isEmpty { settings.allowedOrigins = allowedOrigins.joined(separator: ",") }
        settings.connectionsMax = connectionsMax ?? settings.connectionsMax
        settings.connectionsPerAddressMax = connectionsPerAddressMax ?? settings.connectionsPerAddressMax
    }
}

extension Configuration {
    /// Sets what the server checks of its clients.
    func applyAccess(to server: inout APIServerConfiguration, _ logger: Logger) throws {
        switch (tlsCertificate, tlsKey) {
        case (let certificate?, let key?):
            server.certificate = try Certificate(certificatePath: certificate, keyPath: key)
            server.urlTemplate = "https://<name>.sprites.localhost:<port>"
        case (nil, nil):
            let isLocal = server.host == "localhost" || server.host == "::1" || server.host.hasPrefix("127.")
            if !isLocal {
                logger.warning(
                    "tokens pass over the network unencrypted: use --tls-cert and --tls-key, or a proxy with TLS",
                    metadata: ["server.address": "\(server.host)"])
            }
        default:
            throw SpriteError(.invalidRequest, "cannot serve TLS: give both --tls-cert and --tls-key")
        }
        server.allowedHosts = separated(allowedHosts) + ownNames(server.host)
        server.allowedOrigins = try separated(allowedOrigins).map { origin in
            guard origin.hasPrefix("http://") || origin.hasPrefix("https://"), !origin.hasSuffix("/") else {
                throw SpriteError(
                    .invalidRequest, "cannot allow origin '\(origin)': write it such as https://app.example.org")
            }
            return origin
        }
        server.connectionsMax = try connectionsMax.map(connectionCount) ?? Limits.connectionsMax
        server.connectionsPerAddressMax =
            try connectionsPerAddressMax.map(connectionCount) ?? Limits.connectionsPerAddressMax
    }

    private func separated(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",").map { $0.filter { !$0.isWhitespace } }.filter { !$0.isEmpty }
    }

    private func connectionCount(_ text: String) throws -> Int {
        guard let count = Int(text), (1...1_000_000).contains(count) else {
            throw SpriteError(
                .invalidRequest, "cannot limit connections to '\(text)': write a number from 1 to 1000000")
        }
        return count
    }

    /// Names that nobody else can make point here: the one that is listened on, and the machine's own.
    private func ownNames(_ host: String) -> [String] {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return [host] }
        let name = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return [host, name, "\(name).local"].filter { !$0.isEmpty && $0 != ".local" }
    }
}

/// Records tokens that were made, revoked, or have expired.
struct TokenWatch: Service {
    private static let interval: Duration = .seconds(1)

    let folder: String
    let journal: any JournalRecorder

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            var expired = try await blocking { Set(expiredTokens().keys) }
            while true {
                let found = try await blocking {
                    for note in TokenStore.notes(in: folder) {
                        record(note.event, note.id, note.scope, note.time)
                        TokenStore.forget(note)
                    }
                    return expiredTokens()
                }
                for (id, scope) in found where !expired.contains(id) { record("expired", id, scope, .now()) }
                expired = Set(found.keys)
                try await Task.sleep(for: Self.interval)
            }
        }
    }

    private func expiredTokens() -> [String: String] {
        let now = TokenStore.now()
        let tokens = (try? TokenStore.list(in: folder)) ?? []
        return Dictionary(
            tokens.filter { $0.token.isExpired(at: now) }.map { ($0.token.id, $0.token.scope) },
            uniquingKeysWith: { first, _ in first })
    }

    private func record(_ event: String, _ id: String, _ scope: String, _ time: Timestamp) {
        journal.record(
            JournalRecord(
                "token.\(event)", "token \(id) \(event)", fields: [("token", .text(id)), ("scope", .text(scope))],
                time: time))
    }
}
