// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
package import SpriteDomain

/// Which users of a sprite may use its own API.
package enum InsideUsers: Sendable, Hashable {
    case any
    /// Numbers as the sprite counts them.
    case only(Set<UInt32>)

    func contains(_ user: UInt32) -> Bool {
        switch self {
        case .any: true
        case .only(let users): users.contains(user)
        }
    }
}

/// The API inside every sprite: one unix socket each, at `/.sprite/api.sock`.
///
/// The socket is the identity. It lies in the folder that one sprite sees, and whatever comes through it is answered
/// for that sprite only, so no header, path or name can mean another one. The other end is hostile.
package final class InsideServer: InsideDriver {
    struct State {
        var service: APIService?
        var isClosed = false
        var entries: [SpriteID: Entry] = [:]
        var restores: [SpriteID: RestoreReport] = [:]
    }

    struct Entry {
        var name: SpriteName
        var listener: (any Channel)?
        var connections: [ObjectIdentifier: any Channel] = [:]
        var allowance = RequestAllowance()
    }

    let state = NIOLockedValueBox(State())
    private let folder: @Sendable (SpriteID) -> String
    private let users: InsideUsers
    private let firstHostUser: UInt32
    private let logger: Logger

    /// - Parameters:
    ///   - folder: The folder on the host that a sprite sees as /.sprite.
    ///   - users: Who inside may use the API; others get a 403.
    ///   - firstHostUser: What user 0 of every sprite is on the host.
    package init(
        folder: @escaping @Sendable (SpriteID) -> String, users: InsideUsers, firstHostUser: UInt32, logger: Logger
    ) {
        self.folder = folder
        self.users = users
        self.firstHostUser = firstHostUser
        self.logger = logger
    }

    // MARK: Told by the lifecycle

    package func started(_ sprite: SpriteID, _ name: SpriteName) async {
        let isServed = state.withLockedValue { state in
            state.entries[sprite] = Entry(name: name)
            return state.service != nil && !state.isClosed
        }
        // What runs before the server does is listened for when it begins.
        if isServed { await listen(sprite) }
    }

    package func stopping(_ sprite: SpriteID) async {
        let entry = state.withLockedValue { $0.entries.removeValue(forKey: sprite) }
        guard let entry else { return }
        try? await entry.listener?.close()
        for connection in entry.connections.values { connection.close(promise: nil) }
    }

    // MARK: Told by the server

    func open(_ service: APIService) async {
        let sprites = state.withLockedValue { state in
            state.service = service
            return Array(state.entries.keys)
        }
        for sprite in sprites { await listen(sprite) }
    }

    /// Takes no more connections; those that are busy finish.
    func quiesce() {
        let entries = state.withLockedValue { state in
            state.isClosed = true
            return Array(state.entries.values)
        }
        for entry in entries {
            entry.listener?.close(promise: nil)
            for connection in entry.connections.values {
                connection.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
            }
        }
    }

    func close() async {
        quiesce()
        let entries = state.withLockedValue { Array($0.entries.values) }
        for entry in entries {
            try? await entry.listener?.close()
            for connection in entry.connections.values { try? await connection.close() }
        }
    }

    // MARK: Listening

    private func listen(_ sprite: SpriteID) async {
        do {
            let descriptor = try listeningSocket("\(folder(sprite))/api.sock")
            let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelInitializer { channel in self.setUp(channel, sprite) }
                .withBoundSocket(descriptor).get()
            let isWanted = state.withLockedValue { state in
                guard !state.isClosed, state.entries[sprite] != nil else { return false }
                state.entries[sprite]?.listener = channel
                return true
            }
            if !isWanted { try await channel.close() }
        } catch {
            logger.error(
                "a sprite has no API inside", metadata: ["sprite.id": "\(sprite)", "error": "\(error)"])
        }
    }

    /// Made aside and renamed: whoever finds the socket can connect to it.
    private func listeningSocket(_ path: String) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "socket") }
        do {
            let temporary = path + ".new"
            unlink(temporary)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(temporary.utf8)
            let room = MemoryLayout.size(ofValue: address.sun_path) - 1
            guard bytes.count <= room else { throw IOError(errnoCode: ENAMETOOLONG, reason: "bind \(temporary)") }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            guard result == 0 else { throw IOError(errnoCode: errno, reason: "bind \(temporary)") }
            // Everybody may connect: who may do what is told by an answer, not by a refused connection.
            guard chmod(temporary, 0o666) == 0, Glibc.listen(descriptor, 64) == 0, rename(temporary, path) == 0 else {
                throw IOError(errnoCode: errno, reason: "listen on \(path)")
            }
            return descriptor
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    // MARK: Connections

    /// `struct ucred` of unix(7).
    private struct PeerCredentials: Sendable {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
    }

    private func setUp(_ channel: any Channel, _ sprite: SpriteID) -> EventLoopFuture<Void> {
        guard let options = channel as? any SocketOptionProvider else { return channel.close() }
        let peer: EventLoopFuture<PeerCredentials> = options.unsafeGetSocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
        return peer.flatMapThrowing { peer in try self.admit(channel, sprite, peer) }
    }

    private func admit(_ channel: any Channel, _ sprite: SpriteID, _ peer: PeerCredentials) throws {
        let admitted = state.withLockedValue { state -> (APIService, SpriteName)? in
            guard let service = state.service, let entry = state.entries[sprite], !state.isClosed,
                entry.connections.count < Limits.insideConnectionsMax
            else { return nil }
            state.entries[sprite]?.connections[ObjectIdentifier(channel)] = channel
            return (service, entry.name)
        }
        guard let (service, name) = admitted else { throw ChannelError.ioOnClosedChannel }
        channel.closeFuture.whenComplete { _ in
            self.state.withLockedValue {
                _ = $0.entries[sprite]?.connections.removeValue(forKey: ObjectIdentifier(channel))
            }
        }
        // A user outside the range of the sprite's users is nobody in there.
        let user = peer.user >= firstHostUser ? peer.user - firstHostUser : UInt32.max
        let caller = InsideCaller(sprite: sprite, name: name, user: user, isAllowed: users.contains(user))
        let client = ClientConnection(channel)
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = Limits.insideHeadBytesMax
        limits.maxHeaderListSize = Limits.insideHeadBytesMax
        try channel.pipeline.syncOperations.addHandlers([
            HTTPResponseEncoder(),
            ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes, limitConfiguration: limits)),
            InsideDeadline(), HTTPConnectionState(client: client),
        ])
        let http = try HTTPConnectionChannel(
            wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        // Ends with its connection, which the entry holds; nobody waits for it.
        Task {
            await HTTPConnection(
                service: service, channel: http, firstRequest: FirstRequest(), client: client, caller: caller
            ).run()
            client.left()
        }
    }

    /// Counts a request of a sprite; throws `.limitReached` if there were too many.
    func count(_ sprite: SpriteID) throws {
        let isAllowed = state.withLockedValue { $0.entries[sprite]?.allowance.take() ?? false }
        guard isAllowed else {
            throw SpriteError(
                .limitReached,
                "too many requests: \(Int(Limits.insideRequestsPerSecond)) a second are answered; wait a second")
        }
    }

    func note(_ report: RestoreReport, of sprite: SpriteID) {
        state.withLockedValue { state in
            // Of sprites that are gone nobody asks; the map must not grow with their number.
            if state.restores.count >= 4096 { state.restores = state.restores.filter { state.entries[$0.key] != nil } }
            state.restores[sprite] = report
        }
    }

    func lastRestore(_ sprite: SpriteID) -> RestoreReport? { state.withLockedValue { $0.restores[sprite] } }
}

/// The process at the other end of a connection from inside.
struct InsideCaller: Sendable {
    let sprite: SpriteID
    let name: SpriteName
    /// As the sprite numbers it.
    let user: UInt32
    let isAllowed: Bool
}

/// How many requests a sprite may still send: so many at once, so many a second over time.
struct RequestAllowance {
    private var left = Limits.insideRequestsBurst
    private var last = ContinuousClock.now

    mutating func take() -> Bool {
        let now = ContinuousClock.now
        let gained = (now - last).milliseconds / 1000 * Limits.insideRequestsPerSecond
        left = min(left + gained, Limits.insideRequestsBurst)
        last = now
        guard left >= 1 else { return false }
        left -= 1
        return true
    }
}
