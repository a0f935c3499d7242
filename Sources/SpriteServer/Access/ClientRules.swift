// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteDomain

/// Keeps web pages of other sites from using the browser of somebody who may use this server.
///
/// A page can send requests to any address its visitor reaches, and by a name of its own that it lets point here
/// (DNS rebinding) even read the answers; browsers add what they remember of a sign-in by themselves. But a browser
/// always tells the name it was given (`Host`) and where the page came from (`Origin`, `Sec-Fetch-Site`).
struct ClientRules: Sendable {
    /// Names besides addresses and those that always mean this machine; one that begins with a dot means all below.
    private let hosts: [String]
    /// Such as `https://app.example.org`.
    private let origins: Set<String>

    init(hosts: [String], origins: [String]) {
        self.hosts = hosts.map { $0.lowercased() }
        self.origins = Set(origins.map { $0.lowercased() })
    }

    /// Throws unless the host name of a request to the API is one of this server's.
    ///
    /// An address in it is always right: only a name can have been made to point here. Browsers never leave it out.
    func checkHost(_ headers: HTTPHeaders) throws {
        let values = headers["host"]
        guard values.count <= 1 else {
            throw SpriteError(.invalidRequest, "cannot answer: the request has \(values.count) Host headers")
        }
        guard let value = values.first, !value.isEmpty else { return }
        let name = Self.host(value)
        if name == "localhost" || name.hasSuffix(".localhost") { return }
        if (try? SocketAddress(ipAddress: name, port: 0)) != nil { return }
        let isKnown = hosts.contains { $0.hasPrefix(".") ? name.hasSuffix($0) : name == $0 }
        guard isKnown else {
            throw SpriteError(
                .forbidden,
                "cannot answer for host '\(name.prefix(255))': if it is a name of this server, start it with "
                    + "--allowed-host")
        }
    }

    /// Throws if a browser says that a page of another site made it send this.
    ///
    /// What a person opened, by a link or by typing, passes.
    func checkOrigin(_ head: HTTPRequestHead) throws {
        if let origin = head.headers.first(name: "origin")?.lowercased() {
            if origins.contains(origin) || isOwn(origin, head.headers.first(name: "host")) { return }
            throw SpriteError(
                .forbidden,
                "cannot answer a page of '\(origin.prefix(255))': other sites may not use this server; if this one may, "
                    + "start it with --allowed-origin")
        }
        let site = head.headers.first(name: "sec-fetch-site")?.lowercased()
        guard site == "cross-site" || site == "same-site" else { return }
        let isOpened =
            head.headers.first(name: "sec-fetch-mode")?.lowercased() == "navigate"
            && head.headers.first(name: "sec-fetch-dest")?.lowercased() == "document"
            && (head.method == .GET || head.method == .HEAD)
        guard isOpened else {
            throw SpriteError(.forbidden, "cannot answer a page of another site: they may not use this server")
        }
    }

    /// Whether an origin is the host that was asked, whichever scheme a proxy in front speaks.
    private func isOwn(_ origin: String, _ host: String?) -> Bool {
        guard let host, let scheme = origin.firstRange(of: "://") else { return false }
        let defaultPort = origin.hasPrefix("https:") ? ":443" : ":80"
        func whole(_ authority: String) -> String {
            authority.hasSuffix(defaultPort) ? String(authority.dropLast(defaultPort.count)) : authority
        }
        return whole(String(origin[scheme.upperBound...])) == whole(host.lowercased())
    }

    /// The name or address of a `Host` header, without a port or brackets.
    private static func host(_ value: String) -> String {
        let value = value.lowercased()
        if value.hasPrefix("[") { return String(value.dropFirst().prefix { $0 != "]" }) }
        let name = String(value.prefix { $0 != ":" })
        return name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}

extension HTTPRequestHead {
    /// Throws if the header fields are larger than any client has use for; what is long is in the request line.
    func checkHeaderLimits() throws {
        let bytes = headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
        guard bytes <= Limits.requestHeaderBytesMax else {
            throw SpriteError(
                .headersTooLarge,
                "cannot read the request: its header fields have \(bytes) bytes, the limit is "
                    + "\(Limits.requestHeaderBytesMax)")
        }
    }
}

extension SpriteError.Code {
    /// Larger header fields than are taken. HTTP 431.
    static let headersTooLarge = SpriteError.Code(rawValue: "headers_too_large")
}
