// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Keeps the root filesystems that sprites begin with.
///
/// Every call throws ``SpriteError``.
package protocol BaseStoreDriver: Sendable {
    /// Makes a base in one step: either all of it is there afterwards, or nothing.
    ///
    /// - Parameters:
    ///   - replacing: True: a base of this name is replaced; sprites that run keep what they began with.
    ///   - fill: Writes the root filesystem into the empty folder it is given and returns the base's description,
    ///     which is kept beside it. Runs on a thread of its own and may block.
    /// - Throws: `.alreadyExists`, `.noSpace`, or what `fill` throws.
    func importBase(
        _ name: BaseName, replacing: Bool, fill: @escaping @Sendable (BaseWorkspace) throws -> [UInt8]
    ) async throws
    /// Every base in name order, with its description; empty if that is missing.
    func baseDescriptions() async throws -> [(name: BaseName, description: [UInt8])]
    /// The description of one base; nil if it is missing.
    func baseDescription(_ name: BaseName) async throws -> [UInt8]?
    /// Deletes a base. The caller makes sure that no sprite uses it. `.notFound` if there is none.
    func removeBase(_ name: BaseName) async throws
}

/// The folder of a base that is being made.
package struct BaseWorkspace: Sendable {
    package var path: String
    /// Programs that write into the folder inherit this descriptor: while one is open, nobody cleans the folder up.
    package var lock: Int32
    package init(path: String, lock: Int32) {
        self.path = path
        self.lock = lock
    }
}
