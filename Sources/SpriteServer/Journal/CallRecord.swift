// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteDomain

/// What the journal is told of a call; never its query, its headers or its body, which hold commands and secrets.
struct Call: Sendable {
    var head: HTTPRequestHead
    var target: RequestTarget
    var id: String
    var trace: TraceContext
    var parent: SpanID?
    var time: Timestamp
    var remote: SocketAddress?
    /// Whose token it had.
    var grant: AccessGrant?
    /// Set for a call from inside a sprite.
    var caller: InsideCaller?
}

extension APIService {
    private static let userAgentBytesMax = 100
    fileprivate static let pathLengthMax = 2000

    func record(_ exchange: Exchange, time: Timestamp, since start: ContinuousClock.Instant) {
        let call = Call(
            head: exchange.head, target: exchange.target, id: exchange.id, trace: exchange.trace,
            parent: exchange.parent, time: time, remote: exchange.client.address,
            grant: exchange.grant, caller: exchange.caller)
        record(
            call, status: exchange.status?.code, bytesOut: exchange.bytesOut, errorCode: exchange.errorCode,
            since: start)
    }

    /// Records a call and its span.
    func record(
        _ call: Call, status: UInt?, bytesIn: Int? = nil, bytesOut: Int?, errorCode: String?,
        since start: ContinuousClock.Instant
    ) {
        let route = call.target.segments.flatMap(Route.init)
        // Asked for by machines all day long.
        if route == .health || route == .metrics { return }
        let duration = ContinuousClock.now - start
        let name = call.caller != nil ? "inside" : route?.label ?? "unknown"
        let method = call.head.method.rawValue.prefix(20)
        var fields: [(name: String, value: RecordValue)] = [
            ("method", .text(String(method))), ("path", .text(call.target.path)), ("route", .text(name)),
            ("status", .number(Int64(status ?? 0))), ("duration_ms", .real(duration.milliseconds)),
            ("request_id", .text(call.id)),
        ]
        if let bytesIn = bytesIn ?? call.head.headers.first(name: "content-length").flatMap(Int.init) {
            fields.append(("bytes_in", .number(Int64(bytesIn))))
        }
        if let bytesOut { fields.append(("bytes_out", .number(Int64(bytesOut)))) }
        if let grant = call.grant { fields.append(("token", .text(grant.tokenID))) }
        if let errorCode { fields.append(("error", .text(errorCode))) }
        if let caller = call.caller {
            fields.append(("inside_user", .number(Int64(caller.user))))
        } else if let remote = call.remote {
            fields.append(("remote", .text(remote.hostAndPort)))
        }
        if let agent = call.head.headers.first(name: "user-agent") {
            fields.append(
                ("user_agent", .text(String(decoding: agent.utf8.prefix(Self.userAgentBytesMax), as: UTF8.self))))
        }
        let level: RecordLevel = status.map { $0 >= 500 ? .error : $0 >= 400 ? .warning : .info } ?? .warning
        var record = JournalRecord(
            "api.request", kind: .api, level: level, "\(method) \(call.target.path) \(status ?? 0)", fields: fields,
            time: call.time, trace: call.trace.trace)
        let segments = call.target.segments ?? []
        if let caller = call.caller {
            record.sprite = caller.sprite
        } else if segments.count > 2, segments[0] == "v1", segments[1] == "sprites" {
            record.spriteName = try? SpriteName(segments[2])
        }
        configuration.journal.record(record)
        var span = JournalSpan(
            trace: call.trace.trace, id: call.trace.span, parent: call.parent, name: "http.\(name)",
            sprite: record.sprite, start: call.time, duration: duration,
            error: status.map { $0 >= 400 } == true ? errorCode : nil,
            attributes: [
                ("http.request.method", .text(String(method))), ("url.path", .text(call.target.path)),
                ("http.response.status_code", .number(Int64(status ?? 0))),
            ])
        span.spriteName = record.spriteName
        configuration.journal.record(span)
    }
}

extension APIService {
    /// Records a request to a sprite's URL: what was asked of whom and what came of it, never its query, headers, body.
    func recordFromSprite(
        _ text: String, _ head: HTTPRequestHead, _ remote: SocketAddress?, status: UInt, bytesIn: Int? = nil,
        bytesOut: Int?, since start: ContinuousClock.Instant, time: Timestamp, id: String?, trace: TraceContext,
        parent: SpanID?
    ) {
        let duration = ContinuousClock.now - start
        let path = String(head.uri.prefix { $0 != "?" && $0 != "#" }.prefix(Self.pathLengthMax))
        let method = head.method.rawValue.prefix(20)
        var fields: [(name: String, value: RecordValue)] = [
            ("method", .text(String(method))), ("path", .text(path)), ("status", .number(Int64(status))),
            ("duration_ms", .real(duration.milliseconds)),
        ]
        if let id { fields.append(("request_id", .text(id))) }
        if let bytesIn = bytesIn ?? head.headers.first(name: "content-length").flatMap(Int.init) {
            fields.append(("bytes_in", .number(Int64(bytesIn))))
        }
        if let bytesOut { fields.append(("bytes_out", .number(Int64(bytesOut)))) }
        if let remote { fields.append(("remote", .text(remote.hostAndPort))) }
        var record = JournalRecord(
            "url.request", kind: .api, level: status >= 500 ? .warning : .info, "\(method) \(path) \(status)",
            fields: fields, time: time, trace: trace.trace)
        record.spriteName = try? SpriteName(text)
        configuration.journal.record(record)
        var span = JournalSpan(
            trace: trace.trace, id: trace.span, parent: parent, name: "url.request", sprite: nil, start: time,
            duration: duration, error: status >= 500 ? "status \(status)" : nil,
            attributes: [
                ("http.request.method", .text(String(method))), ("url.path", .text(path)),
                ("http.response.status_code", .number(Int64(status))),
            ])
        span.spriteName = record.spriteName
        configuration.journal.record(span)
    }
}

extension TraceContext {
    /// A new span: in the trace that the client names, or in one of its own.
    static func of(_ headers: HTTPHeaders) -> (TraceContext, parent: SpanID?) {
        let remote = headers.first(name: "traceparent").flatMap(TraceContext.init(traceparent:))
        return (TraceContext(trace: remote?.trace ?? .random(), span: .random()), remote?.span)
    }
}

extension SocketAddress {
    /// `127.0.0.1:40000`.
    var hostAndPort: String { "\(ipAddress ?? "local"):\(port ?? 0)" }
}
