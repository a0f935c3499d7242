// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import Logging
import NIOConcurrencyHelpers
import NIOSSL
import SpriteDomain

/// The certificate and key that connections begin with; read again when the files change.
package final class Certificate: Sendable {
    /// What tells two versions of a file apart.
    private struct Mark: Hashable {
        var inode: UInt64 = 0
        var bytes: Int64 = 0
        var seconds: Int = 0
        var nanoseconds: Int = 0

        init(_ path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return }
            inode = UInt64(status.st_ino)
            bytes = Int64(status.st_size)
            seconds = status.st_mtim.tv_sec
            nanoseconds = status.st_mtim.tv_nsec
        }
    }

    private let certificatePath: String
    private let keyPath: String
    private let state: NIOLockedValueBox<(context: NIOSSLContext, marks: [Mark])>

    /// Throws ``SpriteError`` if the files cannot be used.
    package init(certificatePath: String, keyPath: String) throws {
        self.certificatePath = certificatePath
        self.keyPath = keyPath
        let marks = [Mark(certificatePath), Mark(keyPath)]
        do {
            state = NIOLockedValueBox((try Self.load(certificatePath, keyPath), marks))
        } catch {
            throw SpriteError(
                .invalidRequest,
                "cannot use the certificate \(certificatePath) with the key \(keyPath): both must be PEM files and belong "
                    + "together", cause: error)
        }
    }

    var context: NIOSSLContext { state.withLockedValue { $0.context } }

    /// Files that cannot be used, such as those of which one is written already and the other not yet, change nothing.
    func reloadIfChanged(_ logger: Logger) {
        let marks = [Mark(certificatePath), Mark(keyPath)]
        guard marks != state.withLockedValue({ $0.marks }) else { return }
        do {
            let context = try Self.load(certificatePath, keyPath)
            state.withLockedValue { $0 = (context, marks) }
            logger.notice("certificate read again", metadata: ["path": "\(certificatePath)"])
        } catch {
            // Told once for each change, not every second.
            state.withLockedValue { $0.marks = marks }
            logger.error(
                "the new certificate cannot be used, the old one stays",
                metadata: ["path": "\(certificatePath)", "error": "\(error)"])
        }
    }

    private static func load(_ certificatePath: String, _ keyPath: String) throws -> NIOSSLContext {
        let chain = try NIOSSLCertificate.fromPEMFile(certificatePath)
        let key = try NIOSSLPrivateKey(file: keyPath, format: .pem)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        return try NIOSSLContext(configuration: configuration)
    }
}
