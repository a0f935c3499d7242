// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Logging
import NIOCore
import NIOPosix
import SpriteDomain
import SpriteSystem

/// Answers restricted sprites' questions for names: allowed ones as the host's name servers do, the rest with REFUSED.
///
/// An address is opened for the sprite before it learns it, and only here. One guard serves all sprites of a daemon;
/// whose question it is follows from the sender's address, which the firewall vouches for.
actor NameGuard {
    /// A sprite whose questions come here: a restricted one, or one with secrets.
    private struct Ward {
        /// Nil if it may ask for everything.
        var rules: NameRules?
        /// Names of hosts that secrets are for: they lead to the broker.
        var brokered: Set<String> = []
        var epoch: UInt32
        /// Where names led, so that a changed policy keeps what it still allows.
        var reached: [IPv4Address: Reached] = [:]
        var questions = Allowance(perSecond: 50, burst: 300)
        var newNames = Allowance(perSecond: 5, burst: 200)
        var longNames = Allowance(perSecond: 0.2, burst: 10)
        var seen: Set<String> = []
        var underWay = 0

        func decide(_ name: String) -> NameRules.Decision { rules?.decide(name) ?? .allowed(byExactName: true) }
    }

    private struct Reached {
        var names: Set<String>
        var until: ContinuousClock.Instant
    }

    /// What is kept open when a policy is replaced.
    struct Kept: Sendable {
        var address: IPv4Address
        var seconds: Int
    }

    nonisolated let port: Int
    private let table: String
    private let upstream: UpstreamNames
    private let gateway: IPv4Address
    private let isOpen: @Sendable (IPv4Address) -> Bool
    private let book: ContactBook
    private let logger: Logger
    private let socket: Descriptor
    private let listener: NameListener
    private var wards: [IPv4Address: Ward] = [:]
    private var serving: Task<Void, Never>?

    /// - Parameter isOpen: Whether sprites may use an address at all: no private one.
    init(
        gateway: IPv4Address, nameServers: [String], table: String, book: ContactBook, logger: Logger,
        isOpen: @escaping @Sendable (IPv4Address) -> Bool
    ) async throws {
        self.table = table
        self.gateway = gateway
        self.isOpen = isOpen
        self.book = book
        self.logger = logger
        upstream = UpstreamNames(servers: nameServers.compactMap { IPv4Address($0) })
        socket = Descriptor(owning: try checked(clinux_open_packet_filter(), "open the packet filter"))
        listener = try await NameListener.bind(gateway)
        port = listener.port
    }

    func start() {
        let listener = listener
        // Ends with stop().
        serving = Task {
            await listener.serve { bytes, address, isStream in await self.answer(bytes, from: address, isStream) }
        }
    }

    func stop() { serving?.cancel() }

    /// Puts rules in force for questions; returns what was open and is still allowed.
    func restrict(_ address: IPv4Address, _ rules: NameRules, epoch: UInt32) -> [Kept] {
        var ward = Ward(rules: rules, brokered: wards[address]?.brokered ?? [], epoch: epoch)
        let now = ContinuousClock.now
        for (target, reached) in wards[address]?.reached ?? [:] where reached.until > now {
            let names = reached.names.filter { if case .allowed = rules.decide($0) { true } else { false } }
            guard !names.isEmpty else { continue }
            ward.reached[target] = Reached(names: names, until: reached.until)
        }
        ward.seen = wards[address]?.seen ?? []
        wards[address] = ward
        return ward.reached.map {
            Kept(address: $0.key, seconds: max(1, Int(($0.value.until - now).components.seconds)))
        }
    }

    /// The sprite is no longer restricted.
    func release(_ address: IPv4Address) {
        guard let brokered = wards[address]?.brokered, !brokered.isEmpty else { return wards[address] = nil }
        wards[address] = Ward(rules: nil, brokered: brokered, epoch: 0)
    }

    /// From now on these names lead to the broker; no names for none.
    func broker(_ address: IPv4Address, _ names: Set<String>) {
        if wards[address] == nil, !names.isEmpty { wards[address] = Ward(rules: nil, epoch: 0) }
        wards[address]?.brokered = names
        if names.isEmpty, let ward = wards[address], ward.rules == nil { wards[address] = nil }
    }

    /// Whether the sprite's policy lets it speak to the host of this name.
    func allows(_ address: IPv4Address, _ name: String) -> Bool {
        guard let ward = wards[address] else { return false }
        if case .allowed = ward.decide(name) { return true }
        return false
    }

    /// Where the host of a name is, for the broker; the answer meets what an answer to the sprite itself has to.
    func resolve(_ name: String, for address: IPv4Address) async -> Result<[IPv4Address], ResolutionFault> {
        let question = NameQuestion(addressesOf: name)
        var answer = await upstream.ask(question, overTCP: false)
        if answer?.isTruncated == true { answer = await upstream.ask(question, overTCP: true) }
        guard let answer, !answer.isTruncated, !answer.addresses.isEmpty else { return .failure(.unknown) }
        guard let ward = wards[address], case .allowed = ward.decide(name) else { return .failure(.refused(.denied)) }
        if let reason = refusal(of: answer, ward) ?? (answer.addresses.contains { !isOpen($0) } ? .rebinding : nil) {
            book.record(name: name, isAllowed: false, reason: reason, from: address)
            return .failure(.refused(reason))
        }
        return .success(answer.addresses)
    }

    enum ResolutionFault: Error {
        /// Nobody knows the name, or no name server answers.
        case unknown
        case refused(NetworkContact.Reason)
    }

    /// The answer to a question, or nil where silence is all it deserves.
    private func answer(_ bytes: [UInt8], from address: IPv4Address, _ isStream: Bool) async -> [UInt8]? {
        guard wards[address] != nil else { return nil }
        let question: NameQuestion
        do {
            question = try NameQuestion(bytes)
        } catch {
            switch error {
            case .noMessage: return nil
            case .malformed(let identifier): return emptyReply(identifier, NameReply.formatError)
            case .unsupported(let identifier): return emptyReply(identifier, NameReply.notImplemented)
            }
        }
        if let reason = refusal(of: question, from: address) {
            book.record(name: question.name, isAllowed: false, reason: reason, from: address)
            return question.reply(NameReply.refused)
        }
        if wards[address]?.brokered.contains(question.name) == true {
            book.record(name: question.name, isAllowed: true, reason: nil, addresses: [], from: address)
            // Of other types there is nothing: neither an IPv6 address nor a record that names other addresses.
            return question.type == 1 ? question.reply(leadingTo: gateway) : question.reply(0)
        }
        guard usefulTypes.contains(question.type) else { return question.reply(NameReply.refused) }
        wards[address]?.underWay += 1
        defer { wards[address]?.underWay -= 1 }
        guard let answer = await upstream.ask(question, overTCP: isStream) else {
            return question.reply(NameReply.serverFailure)
        }
        return deliver(answer, question, to: address, isStream)
    }

    /// Nil if the question may go out.
    private func refusal(of question: NameQuestion, from address: IPv4Address) -> NetworkContact.Reason? {
        guard var ward = wards[address] else { return .unnamed }
        defer { wards[address] = ward }
        let isExact: Bool
        switch ward.decide(question.name) {
        case .denied: return .denied
        case .unnamed: return .unnamed
        case .allowed(let byExactName): isExact = byExactName
        }
        guard ward.questions.take(), ward.underWay < questionsUnderWayMax else { return .flood }
        // A name that a rule spells out carries nothing out, and one that was asked before nothing new.
        if !isExact, !ward.seen.contains(question.name) {
            guard ward.newNames.take(), question.name.utf8.count <= longNameBytes || ward.longNames.take() else {
                return .flood
            }
            if ward.seen.count >= namesSeenMax { ward.seen.removeAll() }
            ward.seen.insert(question.name)
        }
        return nil
    }

    /// Opens what the answer leads to, then lets it through.
    private func deliver(
        _ answer: NameAnswer, _ question: NameQuestion, to address: IPv4Address, _ isStream: Bool
    ) -> [UInt8] {
        // The policy may have changed meanwhile.
        guard let ward = wards[address], case .allowed = ward.decide(question.name) else {
            return question.reply(NameReply.refused)
        }
        if answer.isTruncated { return question.reply(0, isTruncated: true) }
        if let reason = refusal(of: answer, ward) {
            book.record(name: question.name, isAllowed: false, reason: reason, from: address)
            return question.reply(NameReply.refused)
        }
        let seconds = Int(min(answer.secondsToLive, secondsToLiveMax)) + secondsOpenAfterwards
        for target in answer.addresses where ward.rules != nil {
            guard open(target, for: address, ward.epoch, name: question.name, seconds: seconds) else {
                return question.reply(NameReply.serverFailure)
            }
        }
        book.record(
            name: question.name, isAllowed: true, reason: nil, addresses: answer.addresses, from: address)
        return answer.reply(to: question, bytesMax: isStream ? 65_535 : question.answerBytesMax)
    }

    /// Nil if the answer may be used.
    private func refusal(of answer: NameAnswer, _ ward: Ward) -> NetworkContact.Reason? {
        guard let rules = ward.rules else { return nil }
        if answer.addresses.count > addressesPerAnswerMax { return .flood }
        if answer.addresses.contains(where: { !isOpen($0) }) { return .rebinding }
        // Whom the owner of an allowed name sends us to is as good as an address; but what a rule denies stays denied.
        if answer.aliases.contains(where: { rules.decide($0) == .denied && rules.names($0) }) { return .alias }
        return nil
    }

    private func open(
        _ target: IPv4Address, for address: IPv4Address, _ epoch: UInt32, name: String, seconds: Int
    ) -> Bool {
        let now = ContinuousClock.now
        let until = now + .seconds(seconds)
        var reached = wards[address]?.reached[target] ?? Reached(names: [], until: now)
        if wards[address]?.reached[target] == nil, (wards[address]?.reached.count ?? 0) >= addressesReachedMax {
            wards[address]?.reached = wards[address]?.reached.filter { $0.value.until > now } ?? [:]
            guard (wards[address]?.reached.count ?? 0) < addressesReachedMax else { return false }
        }
        let result = clinux_renew_element(
            socket.number, table, "names", epoch, target.rawValue, UInt64(seconds) * 1000)
        guard result >= 0 else {
            logger.error(
                "cannot open an address for a sprite",
                metadata: ["address": "\(target)", "error": "\(errnoText(-result))"])
            return false
        }
        if reached.names.count < namesPerAddressMax { reached.names.insert(name) }
        reached.until = until
        wards[address]?.reached[target] = reached
        return true
    }
}

/// A bucket that fills with time.
struct Allowance: Sendable {
    private let perSecond: Double
    private let burst: Double
    private var left: Double
    private var filledAt = ContinuousClock.now

    init(perSecond: Double, burst: Double) {
        self.perSecond = perSecond
        self.burst = burst
        left = burst
    }

    mutating func take() -> Bool {
        let now = ContinuousClock.now
        left = min(burst, left + (now - filledAt) / .seconds(1) * perSecond)
        filledAt = now
        guard left >= 1 else { return false }
        left -= 1
        return true
    }
}

/// A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, NAPTR, DS, SSHFP, DNSKEY, TLSA, SVCB, HTTPS, CAA. Not ANY, not NULL, no
/// zone transfers.
private let usefulTypes: Set<UInt16> = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 44, 48, 52, 64, 65, 257]
/// Longer names are rare, and what tunnels use.
private let longNameBytes = 80
private let namesSeenMax = 4096
private let questionsUnderWayMax = 64
private let addressesPerAnswerMax = 64
private let addressesReachedMax = 4096
private let namesPerAddressMax = 64
/// Programs ask again after an hour even if the owner of the name would let them wait longer.
let secondsToLiveMax: UInt32 = 3600
/// Programs go on using an address for a while after its name's lifetime.
private let secondsOpenAfterwards = 300
