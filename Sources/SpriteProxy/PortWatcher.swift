// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain
import SpriteSystem

/// A port of a sprite that a process listens on.
package struct OpenPort: Sendable, Hashable {
    package var socket: ListeningSocket
    /// Nil if its process could not be found.
    package var owner: SocketOwner?
}

/// What a watcher of ports is told.
package enum PortEvent: Sendable, Hashable {
    /// Everything open at the beginning; first and once.
    case list([OpenPort])
    case opened(OpenPort)
    case closed(OpenPort)
}

/// Tells which ports sprites listen on. Looks only while somebody watches, once for all watchers of a sprite.
package actor PortWatcher {
    private struct Watched {
        var ports: [OpenPort]?
        var watchers: [Int: AsyncStream<PortEvent>.Continuation] = [:]
        var task: Task<Void, Never>?
    }

    private var watched: [SpriteID: Watched] = [:]
    private var nextWatcher = 0

    package init() {}

    /// Watches until the stream is dropped, its task is cancelled or the sprite ends; keeps the sprite awake.
    package func watch(_ use: any SpriteUse) -> AsyncStream<PortEvent> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: PortEvent.self, bufferingPolicy: .bufferingNewest(2 * Limits.listeningPortsMax))
        let (id, number) = (use.id, nextWatcher)
        nextWatcher += 1
        watched[id, default: Watched()].watchers[number] = continuation
        if let ports = watched[id]?.ports { continuation.yield(.list(ports)) }
        // Keeps the use until the stream ends, and goes with it; nobody waits for it.
        continuation.onTermination = { _ in
            use.end()
            Task { await self.remove(number, of: id) }
        }
        if watched[id]?.task == nil {
            // Cancelled with the last watcher.
            watched[id]?.task = Task { await self.poll(id, use.processID) }
        }
        return stream
    }

    private func remove(_ number: Int, of id: SpriteID) {
        watched[id]?.watchers[number] = nil
        guard watched[id]?.watchers.isEmpty == true else { return }
        watched.removeValue(forKey: id)?.task?.cancel()
    }

    private func poll(_ id: SpriteID, _ process: Int32) async {
        while !Task.isCancelled {
            let known = watched[id]?.ports
            guard let ports = try? await blocking({ try look(id, process, known: known ?? []) }), !Task.isCancelled
            else {
                break
            }
            tell(id, ports)
            try? await Task.sleep(for: Limits.portPollInterval)
        }
        // The sprite has ended, unless the last watcher did; those that wait hear it as the end of their stream.
        guard !Task.isCancelled else { return }
        for watcher in watched.removeValue(forKey: id)?.watchers.values.map({ $0 }) ?? [] { watcher.finish() }
    }

    private func tell(_ id: SpriteID, _ ports: [OpenPort]) {
        guard let entry = watched[id] else { return }
        watched[id]?.ports = ports
        for watcher in entry.watchers.values {
            guard let before = entry.ports else {
                watcher.yield(.list(ports))
                continue
            }
            let (old, new) = (Set(before.map(\.socket)), Set(ports.map(\.socket)))
            for port in before where !new.contains(port.socket) { watcher.yield(.closed(port)) }
            for port in ports where !old.contains(port.socket) { watcher.yield(.opened(port)) }
        }
    }
}

/// What listens now; owners are looked up only for what was not known before.
private func look(_ id: SpriteID, _ process: Int32, known: [OpenPort]) throws -> [OpenPort] {
    // Throws when the process is no longer the sprite's first.
    let sockets = try ListeningSocket.all(in: try NetworkNamespace.open(id, process: process))
    let owners = Dictionary(known.map { ($0.socket.inode, $0.owner) }, uniquingKeysWith: { first, _ in first })
    let new = Set(sockets.map(\.inode)).subtracting(owners.keys)
    let found = new.isEmpty ? [:] : SpriteProcesses.owners(of: new, below: process)
    return sockets.map { OpenPort(socket: $0, owner: owners[$0.inode] ?? found[$0.inode]) }
}
