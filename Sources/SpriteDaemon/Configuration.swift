// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import SpriteDomain
import SpriteRuntimes
import SpriteJournal
import SpriteServer

/// What a configuration file may set; a flag of the same name wins over it.
///
/// JSON: `{"listen": "127.0.0.1:7780", "pool_size": "50G", "runtime": "crun", "guest_binary": "/path/sprite-env",
/// "subnet": "10.77.0.0/20", "default_base": "debian-bookworm", "log_level": "info",
/// "inside_users": "root,sprite", "runtimes_cache": "4G", "runtimes_names": "kernel", "name_servers": "192.0.2.53",
/// "open_networks": "10.1.0.0/16", "credential_broker": "on", "broker_upstream_ca": "/path/ca.pem", "journal_age": "30d", "journal_size": "4G", "journal_size_per_sprite": "1G",
/// "journal_output": "on", "journal_rate": "64M", "journal_rate_per_session": "32M"}`.
/// Unknown keys are refused, so that a misspelt setting does not go unnoticed.
struct Configuration: Sendable {
    var listen: String?
    var poolSize: String?
    var runtime: String?
    var guestBinary: String?
    var subnet: String?
    var defaultBase: String?
    var logLevel: String?
    var insideUsers: String?
    var runtimesCache: String?
    /// `kernel` or `juicefs`.
    var runtimesNames: String?
    /// IPv4 addresses, separated by commas.
    var nameServers: String?
    /// Private networks that sprites may use, separated by commas.
    var openNetworks: String?
    /// `on` lets sprites have secrets that requests carry.
    var credentialBroker: String?
    /// Certificates that hosts of secrets may have besides the public ones.
    var brokerUpstreamCertificates: String?
    var journalAge: String?
    var journalSize: String?
    var journalSizePerSprite: String?
    var journalOutput: String?
    var journalRate: String?
    var journalRatePerSession: String?
    var otlpEndpoint: String?
    var otlpHeaders: String?
    var rateLimit: String?
    var createLimit: String?
    var clientTimeout: String?
    var memoryReserve: String?
    var maxAwake: String?
    var tlsCertificate: String?
    var tlsKey: String?
    /// Separated by commas.
    var allowedHosts: String?
    var allowedOrigins: String?
    var connectionsMax: String?
    var connectionsPerAddressMax: String?

    static let keys: [String: any WritableKeyPath<Configuration, String?> & Sendable] = [
        "listen": \.listen, "pool_size": \.poolSize, "runtime": \.runtime, "guest_binary": \.guestBinary,
        "subnet": \.subnet, "default_base": \.defaultBase, "log_level": \.logLevel, "inside_users": \.insideUsers,
        "runtimes_cache": \.runtimesCache, "runtimes_names": \.runtimesNames, "name_servers": \.nameServers,
        "open_networks": \.openNetworks,
        "credential_broker": \.credentialBroker, "broker_upstream_ca": \.brokerUpstreamCertificates,
        "journal_age": \.journalAge, "journal_size": \.journalSize, "journal_size_per_sprite": \.journalSizePerSprite,
        "journal_output": \.journalOutput, "journal_rate": \.journalRate,
        "journal_rate_per_session": \.journalRatePerSession, "otlp_endpoint": \.otlpEndpoint,
        "otlp_headers": \.otlpHeaders, "rate_limit": \.rateLimit,
        "create_limit": \.createLimit, "client_timeout": \.clientTimeout,
        "memory_reserve": \.memoryReserve, "max_awake": \.maxAwake, "tls_cert": \.tlsCertificate, "tls_key": \.tlsKey,
        "allowed_hosts": \.allowedHosts, "allowed_origins": \.allowedOrigins, "max_connections": \.connectionsMax,
        "max_connections_per_address": \.connectionsPerAddressMax,
    ]

    init() {}

    /// How much the journal keeps.
    func retention() throws -> JournalRetention {
        var retention = JournalRetention()
        if let journalAge {
            guard journalAge.hasSuffix("d"), let days = Int64(journalAge.dropLast()), (1...36_500).contains(days) else {
                throw SpriteError(
                    .invalidRequest, "cannot keep the journal for '\(journalAge)': write a number of days, such as 30d")
            }
            retention.age = .seconds(days * 86_400)
        }
        if let journalSize { retention.bytes = Int64(clamping: try byteCount(journalSize)) }
        if let journalSizePerSprite { retention.bytesPerSprite = Int64(clamping: try byteCount(journalSizePerSprite)) }
        return retention
    }

    /// How much output the journal takes.
    func intake() throws -> JournalIntake {
        var intake = JournalIntake()
        if let journalOutput {
            guard ["on", "off"].contains(journalOutput) else {
                throw SpriteError(.invalidRequest, "cannot record output '\(journalOutput)': write on or off")
            }
            intake.recordsOutput = journalOutput == "on"
        }
        if let journalRate { intake.bytesPerSecond = try rate(journalRate) }
        if let journalRatePerSession { intake.bytesPerSecondOfSession = try rate(journalRatePerSession) }
        return intake
    }

    private func rate(_ text: String) throws -> Int64 {
        let bytes = try byteCount(text)
        guard (UInt64(JournalIntake.rateMin)...1 << 40).contains(bytes) else {
            throw SpriteError(
                .invalidRequest, "cannot record '\(text)' a second: the least is 64K, the most is 1T")
        }
        return Int64(bytes)
    }

    init(file path: String) throws {
        let text: Data
        do {
            text = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw SpriteError(.invalidRequest, "cannot read configuration \(path)", cause: error)
        }
        let values: [String: String]
        do {
            values = try JSONDecoder().decode([String: String].self, from: text)
        } catch {
            throw SpriteError(
                .invalidRequest, "cannot read configuration \(path): it must be a JSON object of strings", cause: error)
        }
        for (key, value) in values {
            guard let field = Self.keys[key] else {
                let known = Self.keys.keys.sorted().joined(separator: ", ")
                throw SpriteError(
                    .invalidRequest, "cannot read configuration \(path): '\(key)' is no setting; there are \(known)")
            }
            self[keyPath: field] = value
        }
    }
}

/// Reads `600/m` (also `/s`, `/h`); nil for `off`.
func rateLimit(_ text: String) throws -> RateLimit? {
    if text == "off" { return nil }
    let windows: [Substring: Duration] = ["s": .seconds(1), "m": .seconds(60), "h": .seconds(3600)]
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let count = Int(parts[0]), (1...1_000_000_000).contains(count),
        let window = windows[parts[1]]
    else {
        throw SpriteError(.invalidRequest, "cannot read limit '\(text)': write it such as 600/m, 10/s, 100/h, or off")
    }
    return RateLimit(count: count, window: window)
}

/// Reads a number of sprites, such as `20`; nil for `off`.
func countOrOff(_ text: String) throws -> Int? {
    if text == "off" { return nil }
    guard let number = Int(text), (1...1_000_000).contains(number) else {
        throw SpriteError(.invalidRequest, "cannot read '\(text)': write a number of sprites, 1 to 1000000, or off")
    }
    return number
}

/// Reads seconds, such as `300`; zero for `off`.
func seconds(_ text: String) throws -> Duration {
    if text == "off" { return .zero }
    guard let number = Double(text), number >= 0.1, number <= 86_400 else {
        throw SpriteError(.invalidRequest, "cannot read '\(text)': write seconds, 0.1 to 86400, or off")
    }
    return .milliseconds(Int64(number * 1000))
}

/// Who looks names up in mounted layers: `kernel` or `juicefs`.
func namesLookup(_ text: String) throws -> NamesLookup {
    guard let lookup = NamesLookup(rawValue: text) else {
        throw SpriteError(.invalidRequest, "cannot read runtimes_names '\(text)': write kernel or juicefs")
    }
    return lookup
}

/// Reads `20G`, `512M`, `4096` (bytes), with powers of 1024.
func byteCount(_ text: String) throws -> UInt64 {
    let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
    let unit = text.last.flatMap { units[Character($0.uppercased())] }
    let digits = unit == nil ? Substring(text) : text.dropLast()
    guard let number = UInt64(digits) else {
        throw SpriteError(.invalidRequest, "cannot read size '\(text)': write a number with K, M, G or T, such as 50G")
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
    guard !overflow else { throw SpriteError(.invalidRequest, "cannot read size '\(text)': it is too large") }
    return bytes
}
