// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOConcurrencyHelpers
import NIOCore

/// How many connections there may be, in all and of one address.
final class ConnectionCount: Sendable {
    struct TooMany: Error {}

    private let max: Int
    private let perAddressMax: Int
    private let state = NIOLockedValueBox<(all: Int, byAddress: [String: Int])>((0, [:]))

    init(max: Int, perAddressMax: Int) {
        self.max = max
        self.perAddressMax = perAddressMax
    }

    /// Counts a connection until it is closed. Throws if there are as many as there may be.
    func admit(_ channel: any Channel) throws {
        let address = channel.remoteAddress?.ipAddress ?? ""
        try state.withLockedValue { state in
            guard state.all < max, state.byAddress[address, default: 0] < perAddressMax else { throw TooMany() }
            state.all += 1
            state.byAddress[address, default: 0] += 1
        }
        channel.closeFuture.whenComplete { _ in
            self.state.withLockedValue { state in
                state.all -= 1
                let left = state.byAddress[address, default: 1] - 1
                state.byAddress[address] = left > 0 ? left : nil
            }
        }
    }
}
