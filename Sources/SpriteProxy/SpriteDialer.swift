// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
package import SpriteSystem

/// Connects to TCP ports as a process of the sprite would: sockets are made in the sprite's own network namespace.
///
/// So services that listen on its loopback are reached, and whatever the sprite may not reach is not reached this way.
package enum SpriteDialer {
    /// A connected, non-blocking socket.
    package typealias Socket = Descriptor

    /// Why there is no connection.
    package enum Failure: Error, Sendable, CustomStringConvertible {
        /// Nothing listens there.
        case refused
        case timedOut
        /// The text is no address and no name of the sprite itself.
        case unknownHost
        /// The sprite ended meanwhile.
        case spriteGone
        case failed(SystemError)

        package var description: String {
            switch self {
            case .refused: "nothing listens there"
            case .timedOut: "no answer in time"
            case .unknownHost: "the host is not an IP address, localhost or the sprite's own name"
            case .spriteGone: "the sprite has stopped"
            case .failed(let error): errnoText(error.number)
            }
        }
    }

    /// Connects to the first address that answers; the descriptor is non-blocking.
    package static func dial(
        _ use: any SpriteUse, addresses: [TargetAddress], port: UInt16, timeout: Duration
    ) async throws(Failure) -> Descriptor {
        let deadline = ContinuousClock.now + timeout
        var last = Failure.unknownHost
        for address in addresses {
            do {
                return try await dial(use, address, port: port, deadline: deadline)
            } catch {
                // Of several reasons the first says most: the service usually listens on 127.0.0.1.
                if case .unknownHost = last { last = error }
                if case .spriteGone = error { throw error }
            }
        }
        throw last
    }

    private static func dial(
        _ use: any SpriteUse, _ address: TargetAddress, port: UInt16, deadline: ContinuousClock.Instant
    ) async throws(Failure) -> Descriptor {
        let (id, process) = (use.id, use.processID)
        do {
            let (socket, isConnected) = try await blocking {
                let socket = try makeSocket(id, process, isIPv6: address.isIPv6)
                var result = clinux_connect(socket.number, address.bytes, address.isIPv6, port)
                // On the loopback it takes microseconds; anything further away is waited for without a thread.
                if result == 1 { result = clinux_connect_wait(socket.number, 2) }
                return (socket, try checked(result, "connect") == 0)
            }
            if isConnected { return socket }
            var pause = Duration.milliseconds(1)
            while ContinuousClock.now < deadline {
                try await Task.sleep(for: pause)
                if try checked(clinux_connect_wait(socket.number, 0), "connect") == 0 { return socket }
                pause = min(pause * 2, .milliseconds(50))
            }
        } catch let failure as Failure {
            throw failure
        } catch let error as SystemError {
            throw error.number == ECONNREFUSED ? .refused : .failed(error)
        } catch {
            throw .timedOut  // Cancelled.
        }
        throw .timedOut
    }

    private static func makeSocket(_ id: SpriteID, _ process: Int32, isIPv6: Bool) throws -> Descriptor {
        let namespace = try NetworkNamespace.open(id, process: process)
        return Descriptor(owning: try checked(clinux_socket_in(namespace.number, isIPv6), "make a socket"))
    }
}

/// The network namespace of a sprite.
enum NetworkNamespace {
    /// Opens it, sure that it is this sprite's: a number of a process that has ended may belong to another by now, and
    /// a wrong namespace would be another sprite's, or the host's.
    static func open(_ id: SpriteID, process: Int32) throws -> Descriptor {
        let folder = clinux_open_process(process)
        guard folder >= 0 else { throw SpriteDialer.Failure.spriteGone }
        let held = Descriptor(owning: folder)
        // Through the descriptor, so that what is checked is what is opened.
        guard let groups = try? readSmallFile("/proc/self/fd/\(held.number)/cgroup"), groups.contains("/\(id)") else {
            throw SpriteDialer.Failure.spriteGone
        }
        let namespace = clinux_open_network_of(held.number)
        guard namespace >= 0 else { throw SpriteDialer.Failure.spriteGone }
        return Descriptor(owning: namespace)
    }
}
