// swift-tools-version:6.2
// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env: its decoders of hostile bytes under libFuzzer. `make fuzz` builds and runs it.
//
// A package of its own, with links to the sources, since everything in it is compiled for the fuzzer.
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
    name: "sprite-fuzz",
    dependencies: [.package(url: "https://github.com/apple/swift-nio", from: "2.101.2")],
    targets: [
        // The other linker that swiftc knows on Linux fails on instrumented code.
        .executableTarget(
            name: "fuzz", dependencies: ["Fuzzing"], linkerSettings: [.unsafeFlags(["-use-ld=lld"])]),
        .target(
            name: "Fuzzing",
            dependencies: [
                "SpriteAgentWire", "SpriteAPI", "SpriteDomain",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ], swiftSettings: settings),
        .target(name: "SpriteAgentWire", swiftSettings: settings),
        .target(name: "SpriteAPI", swiftSettings: settings),
        .target(
            name: "SpriteDomain", dependencies: [.product(name: "NIOCore", package: "swift-nio")],
            swiftSettings: settings),
    ]
)
