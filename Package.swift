// swift-tools-version:6.2
// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env: persistent, checkpointable Linux computers.
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let asyncHTTPClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let sqlite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nioConcurrency = Target.Dependency.product(name: "NIOConcurrencyHelpers", package: "swift-nio")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTPTypesHTTP1 = Target.Dependency.product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let serviceLifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

/// A library target of this package; every one has the same settings.
func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

let package = Package(
    name: "sprite-env",
    products: [
        .executable(name: "sprited", targets: ["sprited"]),
        .executable(name: "sprite", targets: ["sprite"]),
        .executable(name: "sprite-env", targets: ["sprite-env"]),
        .library(name: "Sprites", targets: ["Sprites"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        // Programs: a few lines each.
        program("sprited", ["SpriteDaemon"]),
        program("sprite", ["SpriteCLI"]),
        program("sprite-env", ["SpriteInit", "SpriteEnvKit"]),

        // The daemon.
        library(
            "SpriteDaemon",
            [
                "SpriteServer", "SpriteLifecycle", "SpriteServices", "SpriteRegistry", "SpriteStorage", "SpriteImage",
                "SpriteSandbox",
                "SpriteNetwork", "SpriteRuntimes", "SpriteSessions", "SpriteJournal", "SpriteDomain", "SpriteSystem",
                "CLinux", "Sprites",
                argumentParser, logging, serviceLifecycle, unixSignals,
            ]),
        library(
            "SpriteServer",
            [
                "SpriteAPI", "SpriteDomain", "SpriteMCP", "SpriteProxy", hummingbird, hummingbirdCore, httpTypes,
                logging,
                nioConcurrency, nioCore,
                nioHTTP1, nioHTTPTypes, nioHTTPTypesHTTP1, nioPosix, nioSSL, nioWebSocket, serviceLifecycle,
            ]),
        library(
            "SpriteProxy",
            ["SpriteDomain", "SpriteSystem", "CLinux", logging, nioConcurrency, nioCore, nioHTTP1, nioPosix]),
        library("SpriteMCP", ["SpriteAPI", "SpriteDomain", logging, nioCore]),
        library("SpriteLifecycle", ["SpriteDomain", logging, nioCore, serviceLifecycle]),
        library("SpriteServices", ["SpriteDomain", logging, nioCore]),
        library("SpriteRegistry", ["SpriteDomain", "SpriteSystem", grdb]),
        library(
            "SpriteJournal",
            [
                "SpriteDomain", "SpriteSystem", "CLinux", sqlite, logging, asyncHTTPClient, nioCore, nioHTTP1,
                serviceLifecycle,
            ]),
        library("SpriteStorage", ["SpriteDomain", "SpriteSystem", "CLinux", "CBtrfs", logging]),
        library("SpriteRuntimes", ["SpriteDomain", "SpriteSystem", "CLinux", grdb, logging]),
        library("SpriteImage", ["SpriteDomain", "SpriteSystem", "CLinux", logging]),
        library("SpriteSandbox", ["SpriteDomain", "SpriteSystem", "CLinux", logging]),
        library(
            "SpriteNetwork",
            ["SpriteDomain", "SpriteSystem", "CLinux", logging, nioCore, nioHTTP1, nioPosix, nioSSL, nioTLS]),
        library("SpriteSessions", ["SpriteDomain", "SpriteSystem", "SpriteAgentWire", "CLinux", logging, nioCore]),
        library("SpriteDomain", ["SpriteSystem", nioCore]),

        // Inside a sprite; static, without Foundation.
        library("SpriteInit", ["SpriteAgentWire", "SpriteSystem", "CLinux"]),
        library("SpriteEnvKit", ["SpriteSystem", "CLinux"]),
        library("SpriteAgentWire"),

        // The client side.
        library("SpriteCLI", ["Sprites", "SpriteAPI", "CLinux", argumentParser]),
        library(
            "Sprites",
            ["SpriteAPI", asyncHTTPClient, nioCore, nioPosix, nioHTTP1, nioWebSocket, nioSSL, nioConcurrency]),
        library("SpriteAPI"),

        // What Swift cannot import by itself.
        library("SpriteSystem", ["CLinux"]),
        .target(name: "CLinux"),
        .systemLibrary(name: "CBtrfs", providers: [.apt(["libbtrfsutil-dev"])]),

        // The driver of conformance/ for the Swift library.
        program("sprites-conformance", ["Sprites", "SpriteAPI", nioPosix]),

        // Measures through the public API, beside the raw kernel operations.
        .executableTarget(
            name: "sprite-bench",
            dependencies: [
                "Sprites", "SpriteAPI", "SpriteSystem", "SpriteDomain", "SpriteJournal", "CLinux", "CBtrfs",
                argumentParser, logging,
            ],
            path: "Sources/SpriteBench", swiftSettings: settings),

        tests("SpriteDomainTests", ["SpriteDomain"]),
        tests("SpriteRegistryTests", ["SpriteRegistry", "SpriteDomain", grdb]),
        tests("SpriteJournalTests", ["SpriteJournal", "SpriteDomain", logging]),
        tests("SpriteServicesTests", ["SpriteServices", "SpriteDomain"]),
        tests("SpriteAgentWireTests", ["SpriteAgentWire"]),
        tests("SpriteInitTests", ["SpriteInit"]),
        tests(
            "SpriteSessionsTests",
            ["SpriteSessions", "SpriteAgentWire", "SpriteDomain", "SpriteSystem", "CLinux", nioCore, logging]),
        tests("SpriteStorageTests", ["SpriteStorage", "SpriteDomain", "SpriteSystem", "CLinux", "CBtrfs", logging]),
        tests("SpriteImageTests", ["SpriteImage", "SpriteStorage", "SpriteDomain", "SpriteSystem", "CLinux", logging]),
        tests("SpriteRuntimesTests", ["SpriteRuntimes", "SpriteDomain", "SpriteSystem"]),
        tests("SpriteSandboxTests", ["SpriteSandbox", "SpriteDomain", "SpriteSystem", "CLinux", logging]),
        tests("SpriteNetworkTests", ["SpriteNetwork", "SpriteDomain", "SpriteSystem", "CLinux", logging]),
        tests("SpriteProxyTests", ["SpriteProxy", "SpriteDomain", "SpriteSystem"]),
        tests("SpriteAPITests", ["SpriteAPI"]),
        tests(
            "SpriteServerTests",
            [
                "SpriteServer", "SpriteAPI", "SpriteDomain", nioCore, nioEmbedded, nioPosix, nioHTTP1, nioWebSocket,
                logging, serviceLifecycle, asyncHTTPClient,
            ]),
        tests("SpritesTests", ["Sprites", "SpriteAPI", nioCore, nioEmbedded]),
        tests("SpriteCLITests", ["SpriteCLI", "Sprites", "SpriteAPI", argumentParser]),
    ]
)
