// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import Logging
package import SpriteDomain
import SpriteSystem

/// Sprites on a bridge of their own, with address translation to the outside.
///
/// Every sprite has a veth pair: `eth0` inside, the other end an isolated port of the bridge. Namespaces are made
/// ahead, so that creating a sprite does not wait for them. Nothing but our descriptors keeps an unused one alive:
/// when the daemon dies, its pair goes with it. IPv6: only ::1 inside, nothing outwards.
package actor BridgeNetwork: NetworkDriver {
    private let tag: String
    private let bridge: String
    private let portPrefix: String
    private let wanted: Subnet?
    private let runDirectory: String
    let logger: Logger
    /// Name servers of the operator's choice; empty for the host's.
    private let ownNameServers: [String]
    /// What sprites contacted.
    package let book: ContactBook
    private(set) var plan: Plan?
    private var ready: [NetworkSlot] = []
    /// Offsets of addresses that a slot or a sprite has.
    private var used: Set<UInt32> = []
    private var cursor: UInt32 = 0
    private var makers = 0
    private var isShutDown = false
    /// How many slots to keep ready; grows when they run out and falls back when they do not.
    private var target = slotsReadyMin
    private(set) var nameGuard: NameGuard?
    let brokerSettings: BrokerSettings?
    private(set) var broker: Broker?
    /// Sprites with secrets, as the kernel has them.
    var brokered: Set<IPv4Address> = []
    private var packetLog: PacketLog?
    /// Private networks that sprites may use.
    let opened: OpenNetworks
    /// Policies as the kernel has them: sprites' addresses and the numbers of what is in force.
    var epochs: [IPv4Address: UInt32] = [:]
    /// Of sprites that outlived their daemon; empty once all of them are known.
    private var adopted: Set<IPv4Address> = []
    /// Limits in force; those without are not in it.
    var limits: [IPv4Address: NetworkLimit] = [:]

    /// - Parameters:
    ///   - tag: Up to eight letters and digits that tell this daemon's devices from those of others on the host.
    ///   - subnet: At most 4096 addresses; nil to choose a free one.
    ///   - nameServers: IPv4 addresses of name servers; empty to use the host's.
    ///   - openNetworks: Private networks that sprites may use all the same.
    ///   - broker: Nil where the operator wants no secrets to be brokered.
    package init(
        tag: String, subnet: Subnet? = nil, runDirectory: String, nameServers: [String] = [],
        openNetworks: [Subnet] = [], broker: BrokerSettings? = nil, book: ContactBook = ContactBook(), logger: Logger
    ) throws {
        let isPlain = tag.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7A).contains($0)
        }
        guard (1...8).contains(tag.utf8.count), isPlain else {
            throw SpriteError(.internalError, "cannot name network devices: '\(tag)' is not 1 to 8 of a-z and 0-9")
        }
        if let subnet {
            guard (20...28).contains(subnet.prefixLength) else {
                throw SpriteError(.invalidRequest, "cannot use subnet \(subnet): its prefix must be from /20 to /28")
            }
        }
        self.tag = tag
        // Linux takes 15 bytes: spr + 8, and spv + 8 + 3 hexadecimal digits of the address.
        bridge = "spr\(tag)"
        portPrefix = "spv\(tag)"
        wanted = subnet
        ownNameServers = nameServers
        opened = OpenNetworks(openNetworks)
        brokerSettings = broker
        self.book = book
        self.runDirectory = runDirectory
        self.logger = logger
    }

    /// The host's name servers as they are now.
    package nonisolated var nameServers: [String] {
        ownNameServers.isEmpty ? NameServers.current() : ownNameServers
    }

    /// Makes bridge and rules, or repairs those of a daemon before us, whose sprites stay connected meanwhile.
    package func prepare() async throws {
        do {
            let (tag, bridge, portPrefix, wanted) = (tag, bridge, portPrefix, wanted)
            let runDirectory = runDirectory
            let plan = try await blocking {
                try Plan.carryOut(
                    tag: tag, bridge: bridge, portPrefix: portPrefix, wanted: wanted, runDirectory: runDirectory)
            }
            let packetLog = try PacketLog(tag: tag, book: book)
            self.packetLog = packetLog
            let opened = opened
            let nameGuard = try await NameGuard(
                gateway: plan.subnet.gateway, nameServers: nameServers, table: Firewall.table(tag), book: book,
                logger: logger, isOpen: { opened.allows($0) })
            self.nameGuard = nameGuard
            await nameGuard.start()
            if let brokerSettings {
                broker = try await Broker.start(
                    gateway: plan.subnet.gateway, settings: brokerSettings, names: nameGuard, logger: logger)
            }
            let firewall = plan.firewall(
                nameServers: nameServers, opened: opened.networks, guardPort: nameGuard.port, brokerPort: broker?.port,
                logGroup: packetLog.group)
            epochs = try await blocking {
                try plan.load(firewall)
                return try plan.epochsInForce()
            }
            self.plan = plan
        } catch let error as SpriteError {
            throw error
        } catch {
            throw SpriteError(
                .internalError, "cannot set up the network: see the log, or `sprited doctor`", cause: error)
        }
        refill()
    }

    package func acquire() async throws -> NetworkSlot {
        if let slot = ready.popLast() {
            refill()
            return slot
        }
        target = min(target * 2, slotsReadyMax)
        defer { refill() }
        return try await makeSlot()
    }

    package func handedOver(_ slot: NetworkSlot) {
        close(slot.userNamespace)
        close(slot.networkNamespace)
    }

    package func release(address: String) async {
        guard let plan, let address = IPv4Address(address), let offset = plan.subnet.offset(of: address) else { return }
        // Before anybody else gets the address.
        await liftBrokerage(address)
        await liftPolicy(address)
        await liftLimits(address)
        used.remove(offset)
    }

    package func adopt(address: String) {
        guard let plan, let address = IPv4Address(address), let offset = plan.subnet.offset(of: address) else { return }
        used.insert(offset)
        adopted.insert(address)
    }

    package func liftAbandoned() async {
        for address in epochs.keys where !adopted.contains(address) { await liftPolicy(address) }
        adopted = []
    }

    /// Lets unused slots go; with `removeEverything`, and if no sprite is connected, also bridge and rules.
    package func shutdown(removeEverything: Bool = false) async {
        isShutDown = true
        for slot in ready { handedOver(slot) }
        ready.removeAll()
        await nameGuard?.stop()
        broker?.stop()
        packetLog?.close()
        guard removeEverything, let plan else { return }
        let logger = logger
        do { try await blocking { try plan.remove() } } catch {
            logger.warning("cannot remove the network", metadata: ["error": "\(error)"])
        }
    }

    private func refill() {
        guard !isShutDown, plan != nil, makers == 0, ready.count < target else { return }
        makers += 1
        // Nobody awaits it: it ends when enough slots are there, and what it leaves lives only as long as this process.
        Task { await self.fill() }
    }

    private func fill() async {
        while !isShutDown, ready.count < target {
            do {
                let slot = try await makeSlot()
                if isShutDown { handedOver(slot) } else { ready.append(slot) }
            } catch {
                logger.warning("cannot make a network ahead", metadata: ["error": "\(error)"])
                break
            }
        }
        if ready.count >= target { target = max(slotsReadyMin, target - 1) }
        makers -= 1
    }

    private func makeSlot() async throws -> NetworkSlot {
        guard let plan, !isShutDown else {
            throw SpriteError(.unavailable, "cannot give the sprite a network: the daemon is not ready or is stopping")
        }
        let offset = try reserve(plan)
        do {
            return try await blocking { try plan.makeSlot(offset) }
        } catch {
            used.remove(offset)
            throw SpriteError(.internalError, "cannot give the sprite a network", cause: error)
        }
    }

    /// Goes round, so that an address rests before it is used again and connections to its last owner have ended.
    private func reserve(_ plan: Plan) throws -> UInt32 {
        let offsets = plan.subnet.offsets
        for step in 0..<UInt32(offsets.count) {
            let offset = offsets.lowerBound + (cursor &+ step) % UInt32(offsets.count)
            // A port that is still there belongs to a sprite not yet adopted, or is on its way out.
            guard !used.contains(offset), !HostNetwork.exists(plan.portName(offset)) else { continue }
            used.insert(offset)
            cursor = offset - offsets.lowerBound + 1
            return offset
        }
        throw SpriteError(
            .limitReached, "cannot give the sprite a network: all \(offsets.count) addresses of \(plan.subnet) are used"
        )
    }
}

/// Enough for what people start by hand at once; each costs two namespaces and a veth pair.
private let slotsReadyMin = 4
private let slotsReadyMax = 16
