// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

/// What is known of a base; kept beside it as JSON.
package struct BaseInfo: Codable, Sendable, Hashable {
    package var name: String
    /// `ID` of os-release, such as `debian`; nil if the base does not say.
    package var distro: String?
    /// Version and, where there is one, code name, such as `12 (bookworm)`.
    package var version: String?
    package var sizeBytes: UInt64?
    /// Seconds since 1970, UTC.
    package var createdAt: Int64?
    /// Installed packages, if the base has a package manager that we know.
    package var packages: Int?
    /// Where it came from, such as `mmdebstrap bookworm` or the file name of an image.
    package var source: String?
    /// What runs as PID 1 in its sprites; nil means `sprite`.
    package var initSystem: InitSystem?

    private enum CodingKeys: String, CodingKey {
        case name, distro, version, sizeBytes, createdAt, packages, source
        case initSystem = "init"
    }

    package init(
        name: String, distro: String? = nil, version: String? = nil, sizeBytes: UInt64? = nil, createdAt: Int64? = nil,
        packages: Int? = nil, source: String? = nil, initSystem: InitSystem? = nil
    ) {
        self.initSystem = initSystem
        self.name = name
        self.distro = distro
        self.version = version
        self.sizeBytes = sizeBytes
        self.createdAt = createdAt
        self.packages = packages
        self.source = source
    }
}

/// How far making a base has come.
package struct BaseProgress: Sendable, Hashable {
    /// For people, such as `unpacking git (34 of 120)`.
    package var step: String
    /// From 0 to 1; nil while it cannot be known.
    package var fraction: Double?
    /// True for something the user should know afterwards as well, such as credentials that were copied.
    package var isNotice: Bool

    package init(_ step: String, fraction: Double? = nil, isNotice: Bool = false) {
        self.step = step
        self.fraction = fraction
        self.isNotice = isNotice
    }
}

/// Called from another thread, often; must not block for long.
package typealias BaseProgressHandler = @Sendable (BaseProgress) -> Void

/// What an image file or folder is.
package enum ImageKind: String, Sendable, CaseIterable {
    /// An OCI image layout, as a folder or as a tar of it.
    case oci
    /// An archive of `docker save`.
    case docker
    /// The tar of a root filesystem.
    case tar
}

/// Refuses an image, in words for the user.
func refuseImage(_ reason: String, cause: (any Error)? = nil) -> SpriteError {
    SpriteError(.invalidRequest, "cannot import image: \(reason)", cause: cause)
}
