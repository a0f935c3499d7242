// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Synchronization
import Testing

@testable import Sprites

@Suite(.timeLimit(.minutes(1))) struct ProxyTests {
    private static let cases: [(server: String, environment: [String: String], wanted: String?)] = [
        ("http://a.test", ["http_proxy": "http://p:8080"], "p:8080"),
        ("http://a.test", ["HTTP_PROXY": "p:3128/"], "p:3128"),
        ("http://a.test", ["HTTPS_PROXY": "http://p:8080"], nil),
        ("https://a.test", ["HTTPS_PROXY": "http://p:8080", "HTTP_PROXY": "http://q"], "p:8080"),
        ("http://a.test", ["HTTP_PROXY": "http://p", "NO_PROXY": "b.test, a.test"], nil),
        ("http://x.a.test", ["HTTP_PROXY": "http://p", "no_proxy": "a.test"], nil),
        ("http://x.a.test", ["HTTP_PROXY": "http://p", "no_proxy": ".a.test"], nil),
        ("http://xa.test", ["HTTP_PROXY": "http://p", "no_proxy": "a.test"], "p:80"),
        ("http://a.test:81", ["HTTP_PROXY": "http://p", "no_proxy": "a.test:80"], "p:80"),
        ("http://a.test:81", ["HTTP_PROXY": "http://p", "no_proxy": "a.test:81"], nil),
        ("http://a.test", ["HTTP_PROXY": "http://p", "no_proxy": "*"], nil),
        ("http://localhost:7780", ["HTTP_PROXY": "http://p"], nil),
        ("http://127.0.0.1:7780", ["HTTP_PROXY": "http://p"], nil),
        ("http://[::1]:7780", ["HTTP_PROXY": "http://p"], nil),
        ("http://[2001:db8::1]", ["HTTP_PROXY": "http://p", "NO_PROXY": "[2001:db8::1]"], nil),
    ]

    @Test(arguments: cases)
    func `the environment says which proxy`(server: String, environment: [String: String], wanted: String?) throws {
        let found = try ProxySetting.environment.proxy(to: try ServerAddress(server)) { environment[$0] }
        #expect(found.map { "\($0.host):\($0.port)" } == wanted)
    }

    @Test func `a login is told, and no other scheme is taken`() throws {
        let server = try ServerAddress("http://localhost")
        let proxy = try ProxySetting.url("http://user:p%40ss@proxy:8080").proxy(to: server)
        #expect(proxy?.credentials == "dXNlcjpwQHNz")
        let error = #expect(throws: SpritesError.self) { try ProxySetting.url("socks5://u:secret@p").proxy(to: server) }
        #expect(error?.code == .invalidRequest)
        #expect(error?.message.contains("secret") == false)
    }

    @Test func `a proxy that refuses is named in the error`() async throws {
        let asked = Mutex<[FakeRequest]>([])
        let proxy = try FakeServer { connection in
            let request = try connection.readRequest()
            asked.withLock { $0.append(request) }
            try connection.answer(407, "")
        }
        defer { proxy.stop() }
        var options = SpritesClient.Options()
        options.proxy = .url("http://me:word@127.0.0.1:\(proxy.port)")
        let error = try await SpritesClient.with(baseURL: "http://a.test:81", token: "t", options: options) { client in
            await #expect(throws: SpritesError.self) { try await client.sprite("demo").command("true").run() }
        }
        #expect(error?.code == .cannotConnect)
        #expect(error?.message.contains("407") == true)
        let request = asked.withLock { $0.first }
        #expect(request?.method == "CONNECT")
        #expect(request?.target == "a.test:81")
        #expect(request?.headers["proxy-authorization"] == "Basic bWU6d29yZA==")
    }
}
