// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import ServiceLifecycle
import SpriteDomain

/// Which tokens are in use on which connections, so that a revoked one ends what it began.
final class LiveGrants: Sendable {
    private let channels = NIOLockedValueBox<[String: [ObjectIdentifier: (channel: any Channel, count: Int)]]>([:])

    /// Counts a use of a token on a connection.
    func begin(_ grant: AccessGrant, _ channel: any Channel) {
        let id = ObjectIdentifier(channel)
        channels.withLockedValue { channels in
            let count = channels[grant.tokenID]?[id]?.count ?? 0
            channels[grant.tokenID, default: [:]][id] = (channel, count + 1)
        }
    }

    func end(_ grant: AccessGrant, _ channel: any Channel) {
        let id = ObjectIdentifier(channel)
        channels.withLockedValue { channels in
            guard let entry = channels[grant.tokenID]?[id] else { return }
            channels[grant.tokenID]?[id] = entry.count > 1 ? (channel, entry.count - 1) : nil
            if channels[grant.tokenID]?.isEmpty == true { channels[grant.tokenID] = nil }
        }
    }

    /// Closes the connections of every token that is no longer good.
    ///
    /// - Returns: How many.
    func cut(isGood: (String) -> Bool) -> Int {
        let tokens = channels.withLockedValue { Array($0.keys) }
        var count = 0
        for token in tokens where !isGood(token) {
            let open = channels.withLockedValue { $0.removeValue(forKey: token)?.values.map(\.channel) ?? [] }
            for channel in open { channel.close(promise: nil) }
            count += open.count
        }
        return count
    }
}

/// Looks every second at what may change while the server runs: tokens, and the files of its certificate.
struct AccessWatch: Service {
    private static let interval: Duration = .seconds(1)

    let service: APIService

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                try await Task.sleep(for: Self.interval)
                // Files are looked at.
                try await NIOThreadPool.singleton.runIfActive { look() }
            }
        }
    }

    private func look() {
        service.configuration.certificate?.reloadIfChanged(service.logger)
        let count = service.live.cut(isGood: service.configuration.isTokenGood)
        if count > 0 {
            service.logger.notice("connections of a revoked token closed", metadata: ["count": "\(count)"])
        }
    }
}
