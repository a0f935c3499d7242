// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import ServiceLifecycle
import SpriteAPI
import SpriteDomain

/// The endless list of sprites.
extension APIService {
    /// Between two looks at all sprites, while somebody watches; a thousand of them cost about a millisecond.
    private static let watchInterval: Duration = .milliseconds(300)
    /// Between two signs of life.
    private static let heartbeatInterval: Duration = .seconds(15)

    func counts(_ page: SpritePage) -> API.SpriteCounts {
        API.SpriteCounts(
            name: configuration.organization, running: page.counts[.running] ?? 0, warm: page.counts[.warm] ?? 0,
            cold: page.counts[.cold] ?? 0)
    }

    /// Sends a line for every sprite, then one for every change, until the client leaves or the server stops.
    func watchSprites(_ exchange: Exchange, prefix: String, _ scope: AccessScope) async throws {
        // While it goes on, nothing but the client's end is read from the connection.
        exchange.closeAfterwards()
        let stream = EventStream(exchange)
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // Ends with the client, or with the server.
                try? await cancelWhenGracefulShutdown { try await sendChanges(to: stream, prefix: prefix, scope) }
            }
            group.addTask { await exchange.parts.discardAll() }
            await group.next()
            group.cancelAll()
        }
        try await stream.end()
    }

    private func sendChanges(to stream: EventStream, prefix: String, _ scope: AccessScope) async throws {
        var known: [String: API.SpriteEvent] = [:]
        var lastSent = ContinuousClock.now
        while true {
            let page = try await control.list(prefix: prefix, after: nil, limit: .max, in: scope)
            let now = Timestamp.now().text
            var lines: [API.SpriteEvent] = []
            var seen: Set<String> = []
            for view in page.sprites {
                let name = view.sprite.name.rawValue
                seen.insert(name)
                var line = API.SpriteEvent(timestamp: "")
                line.name = name
                line.status = view.status.rawValue
                line.statusReason = view.reason
                line.runningVersion = configuration.version
                line.lastRunningAt = view.sprite.lastRunningAt?.text
                line.lastWarmingAt = view.lastWarmingAt?.text
                guard known[name] != line else { continue }
                known[name] = line
                line.timestamp = now
                line.organization = counts(page)
                lines.append(line)
            }
            for name in known.keys.filter({ !seen.contains($0) }).sorted() {
                known[name] = nil
                var line = API.SpriteEvent(type: "removed", timestamp: now)
                line.name = name
                line.organization = counts(page)
                lines.append(line)
            }
            if !stream.isOpen || (lines.isEmpty && ContinuousClock.now - lastSent >= Self.heartbeatInterval) {
                // The first line comes at once, also where there is no sprite.
                lines.append(API.SpriteEvent(type: "heartbeat", timestamp: now))
            }
            if !lines.isEmpty {
                try await stream.send(lines)
                lastSent = .now
            }
            try await Task.sleep(for: Self.watchInterval)
        }
    }
}
