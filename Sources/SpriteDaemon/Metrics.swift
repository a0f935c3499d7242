// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteJournal
import SpriteLifecycle
import SpriteStorage

/// The daemon's measures in the text format of Prometheus.
func metricsText(_ parts: Parts) async -> String {
    var counts: [SpriteStatus: Int] = [.cold: 0, .warm: 0, .running: 0]
    var after: String?
    repeat {
        guard let page = try? await parts.lifecycle.list(prefix: "", after: after, limit: 1000) else { break }
        for view in page.sprites { counts[view.status, default: 0] += 1 }
        after = page.next
    } while after != nil
    var text = """
        # HELP sprited_sprites Sprites by state.
        # TYPE sprited_sprites gauge

        """
    for (status, count) in counts.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        text += "sprited_sprites{state=\"\(status.rawValue)\"} \(count)\n"
    }
    if let space = try? await parts.pool.space() {
        text += """
            # HELP sprited_pool_bytes Size of the pool.
            # TYPE sprited_pool_bytes gauge
            sprited_pool_bytes \(space.totalBytes)
            # HELP sprited_pool_available_bytes Space left in the pool.
            # TYPE sprited_pool_available_bytes gauge
            sprited_pool_available_bytes \(space.availableBytes)

            """
    }
    return text + parts.journal.metricsText
}
