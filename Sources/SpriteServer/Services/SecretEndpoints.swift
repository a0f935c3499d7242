// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    /// `…/secrets`: what is there, without the values.
    func listSecrets(_ exchange: Exchange, _ sprite: SpriteName) async throws {
        try await exchange.send(json: API.SecretList(secrets: try await control.secrets(sprite).map(wire)))
    }

    func serveSecret(_ exchange: Exchange, _ sprite: SpriteName, _ id: String) async throws {
        switch exchange.method {
        case "GET":
            guard let secret = try await control.secrets(sprite).first(where: { $0.id == id }) else {
                throw SpriteError(.notFound, "there is no secret '\(id.prefix(Limits.secretIDBytesMax))'")
            }
            try await exchange.send(json: wire(secret))
        case "DELETE":
            try await control.removeSecret(sprite, id)
            try await exchange.send(.noContent)
        default:
            let secret = try await exchange.requiredBody(API.SetSecret.self).checked(id)
            try await control.setSecret(sprite, secret)
            try await exchange.send(.noContent)
        }
    }

    private func wire(_ secret: BrokeredSecret) -> API.Secret {
        API.Secret(
            id: secret.id, host: secret.host, header: secret.header, format: secret.format,
            createdAt: secret.createdAt.text, lastUsedAt: secret.lastUsedAt?.text)
    }
}

extension API.SetSecret {
    /// No message repeats the value.
    fileprivate func checked(_ id: String) throws -> BrokeredSecret {
        guard (1...Limits.secretIDBytesMax).contains(id.utf8.count),
            id.utf8.allSatisfy({ $0.isLetterOrDigit || [0x2D, 0x2E, 0x5F].contains($0) })
        else {
            throw invalid("its id must be 1 to \(Limits.secretIDBytesMax) of a-z, A-Z, 0-9, '-', '_' and '.'")
        }
        let host = host.lowercased()
        guard API.NetworkPolicy.isDomain(host), host.contains("."), !host.contains("*"),
            host.utf8.last.map({ !(0x30...0x39).contains($0) }) == true
        else {
            throw invalid("'host' must be one exact host name with a dot, no address, no '*' and no port")
        }
        let header = (header ?? "authorization").lowercased()
        guard (1...64).contains(header.utf8.count), header.utf8.allSatisfy({ $0.isLetterOrDigit || $0 == 0x2D }) else {
            throw invalid("'header' must be 1 to 64 letters, digits and '-'")
        }
        guard !reserved.contains(header) else { throw invalid("the header '\(header)' is not for secrets") }
        let format = format ?? (header == "authorization" ? "Bearer {}" : "{}")
        guard format.utf8.count <= 256, format.ranges(of: "{}").count == 1, format.isPlainText else {
            throw invalid("'format' must hold {} once, in at most 256 printable ASCII characters")
        }
        guard (1...Limits.secretBytesMax).contains(value.utf8.count), value.isPlainText else {
            throw invalid("'value' must be 1 to \(Limits.secretBytesMax) printable ASCII characters, without line ends")
        }
        return BrokeredSecret(
            id: id, host: host, header: header, format: format, value: value, createdAt: .now())
    }

    private func invalid(_ text: String) -> SpriteError {
        SpriteError(.invalidRequest, "cannot set the secret: \(text)")
    }
}

extension String {
    fileprivate var isPlainText: Bool { utf8.allSatisfy { (0x20...0x7E).contains($0) } }
}

extension UInt8 {
    fileprivate var isLetterOrDigit: Bool {
        (0x30...0x39).contains(self) || (0x41...0x5A).contains(self) || (0x61...0x7A).contains(self)
    }
}

/// Headers that say how a message is framed or where it goes.
private let reserved: Set<String> = [
    "host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
    "keep-alive", "proxy-connection", "proxy-authorization", "content-encoding", "range",
]
