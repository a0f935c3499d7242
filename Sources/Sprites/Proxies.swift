// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
import NIOCore
import SpriteAPI

/// Which HTTP proxy requests go through.
public enum ProxySetting: Sendable, Hashable {
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, in capitals or not; never for this machine itself.
    case environment
    /// None.
    case none
    /// `http://HOST:PORT`, with `USER:PASSWORD@` before the host if it asks for that.
    case url(String)
}

/// An HTTP proxy.
struct ProxyAddress: Sendable, Hashable {
    var host: String
    var port: Int
    /// `USER:PASSWORD` in base64, if it is to be told.
    var credentials: String?

    /// - Throws: ``SpritesError`` with `.invalidRequest`.
    init(_ text: String) throws {
        // Not the text itself: it may hold a password.
        func invalid(_ why: String) -> SpritesError { SpritesError(.invalidRequest, "invalid proxy URL: \(why)") }
        var rest = text[...]
        if rest.hasPrefix("http://") {
            rest = rest.dropFirst(7)
        } else if rest.contains("://") {
            throw invalid("use http://HOST:PORT, also for https requests")
        }
        rest = rest.prefix { $0 != "/" }
        if let at = rest.lastIndex(of: "@") {
            guard let decoded = API.PercentCoding.decode(rest[..<at].utf8, plusIsSpace: false) else {
                throw invalid("the login is not percent-coded")
            }
            credentials = Data(decoded.utf8).base64EncodedString()
            rest = rest[rest.index(after: at)...]
        }
        let address = try ServerAddress("http://\(rest)")
        (host, port) = (address.host, address.port)
    }
}

extension ProxySetting {
    /// The proxy on the way to a server, if there is one.
    func proxy(to server: ServerAddress, environment: (String) -> String? = variable(_:)) throws -> ProxyAddress? {
        func named(_ name: String) -> String? { environment(name.lowercased()) ?? environment(name) }
        switch self {
        case .none: return nil
        case .url(let text): return try ProxyAddress(text)
        case .environment:
            guard let text = named(server.isSecure ? "HTTPS_PROXY" : "HTTP_PROXY"), !server.isThisMachine,
                !(named("NO_PROXY") ?? "").split(separator: ",").contains(where: { server.isMeant(by: $0) })
            else { return nil }
            return try ProxyAddress(text)
        }
    }
}

/// A variable of the environment; an empty one counts as absent.
func variable(_ name: String) -> String? {
    guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else { return nil }
    return value
}

extension ServerAddress {
    /// Whether it is this machine by its name or by an address, which no proxy can reach for us.
    var isThisMachine: Bool {
        let name = host.lowercased()
        if name == "localhost" || name.hasSuffix(".localhost") { return true }
        guard let address = try? SocketAddress(ipAddress: host, port: 0) else { return false }
        return address.ipAddress == "::1" || host.hasPrefix("127.")
    }

    /// Whether an item of `NO_PROXY` means it: `*`, a name with everything below it, or either with a port.
    func isMeant(by item: Substring) -> Bool {
        var item = String(item).trimmed.lowercased()
        if item == "*" { return true }
        if let colon = item.lastIndex(of: ":"), let wanted = Int(item[item.index(after: colon)...]),
            item.firstIndex(of: ":") == colon || item.hasPrefix("[")
        {
            guard wanted == port else { return false }
            item = String(item[..<colon])
        }
        if item.hasPrefix("["), item.hasSuffix("]") { item = String(item.dropFirst().dropLast()) }
        while item.hasPrefix("*") || item.hasPrefix(".") { item.removeFirst() }
        guard !item.isEmpty else { return false }
        let name = host.lowercased()
        return name == item || name.hasSuffix("." + item)
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}

/// Asks a proxy for a way to the server, and is gone when there is one.
final class ProxyTunnel: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private static let answerBytesMax = 16 << 10

    private let target: String
    private let proxy: ProxyAddress
    private let promise: EventLoopPromise<Void>
    private var answer = ByteBuffer()
    private var isDone = false

    /// - Parameters:
    ///   - target: `HOST:PORT`.
    ///   - promise: Told once, how it went.
    init(to target: String, through proxy: ProxyAddress, _ promise: EventLoopPromise<Void>) {
        self.target = target
        self.proxy = proxy
        self.promise = promise
    }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { ask(context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        ask(context)
        context.fireChannelActive()
    }

    private func ask(_ context: ChannelHandlerContext) {
        var request = "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n"
        if let credentials = proxy.credentials { request += "Proxy-Authorization: Basic \(credentials)\r\n" }
        context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(string: request + "\r\n")), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // The proxy says nothing behind its answer before we speak.
        var bytes = Self.unwrapInboundIn(data)
        guard !isDone else { return }
        answer.writeBuffer(&bytes)
        let text = String(buffer: answer)
        guard text.contains("\r\n\r\n") else {
            if answer.readableBytes > Self.answerBytesMax { finish(context, "its answer has no end") }
            return
        }
        let first = text.prefix { $0 != "\r\n" && $0 != "\r" }
        let words = first.split(separator: " ")
        finish(context, words.count > 1 && words[1].hasPrefix("2") ? nil : "it answered \(first.prefix(100))")
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(context, "it closed the connection")
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(context, "\(error)")
        context.close(promise: nil)
    }

    private func finish(_ context: ChannelHandlerContext, _ problem: String?) {
        guard !isDone else { return }
        isDone = true
        if let problem {
            promise.fail(
                SpritesError(
                    .cannotConnect,
                    "cannot connect to \(target): the proxy \(proxy.host):\(proxy.port) gives no way there: \(problem)")
            )
        } else {
            promise.succeed()
        }
    }
}
