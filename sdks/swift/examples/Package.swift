// swift-tools-version:6.2
// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env: the examples of the Swift library, in a package that uses it as any other package does.
import PackageDescription

let package = Package(
    name: "examples",
    dependencies: [.package(name: "sprite-env", path: "../../..")],
    targets: [
        .executableTarget(
            name: "examples", dependencies: [.product(name: "Sprites", package: "sprite-env")],
            swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
