// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

/// An object that JuiceFS could not read for a sprite, which got EIO: what it is, why, and what to do about it.
package struct LayerFault: Hashable, Sendable {
    package var layer: RuntimesVersion
    /// Such as `chunks/3798205927979/3798205927979146/3798205927979146678_0_4194304`.
    package var object: String
    package var store: StoreAddress
    /// Why, and what to do.
    package var cause: String

    package var description: String { "cannot read object \(object) of runtimes \(layer): \(cause)" }

    /// Finds the faults that JuiceFS reported, each once: `fail to read sliceId … : get KEY: CAUSE`.
    static func all(in log: some StringProtocol, layer: RuntimesVersion, store: StoreAddress) -> [LayerFault] {
        var result: [LayerFault] = []
        for line in log.split(separator: "\n") where line.contains("fail to read sliceId") {
            guard let object = line.split(separator: " ").first(where: { $0.hasPrefix("chunks/") }) else { continue }
            let key = String(object.prefix { $0 != ":" && $0 != "," })
            let fault = LayerFault(
                layer: layer, object: key, store: store, cause: cause(String(line), of: layer, at: store))
            if !result.contains(fault) { result.append(fault) }
        }
        return result
    }

    private static func cause(_ text: String, of layer: RuntimesVersion, at store: StoreAddress) -> String {
        if let known = store.explanation(text) { return known }
        if ["NoSuchKey", "no such file", "NotFound"].contains(where: text.contains) {
            return "it is missing at \(store); publish \(layer) there again"
        }
        if ["checksum", "Src size is incorrect", "fully:", "EOF"].contains(where: text.contains) {
            return "it is damaged at \(store); delete it there and publish \(layer) again"
        }
        if ["timeout", "deadline exceeded"].contains(where: text.contains) {
            return "\(store) does not answer in time; what is not cached works again when it does"
        }
        return "\(store) gave: \(text.suffix(300))"
    }
}

extension StoreAddress {
    /// What a store said, as something to act on; nil if it is nothing known.
    func explanation(_ text: String) -> String? {
        let causes: [(String, String)] = [
            ("NoSuchBucket", "there is no bucket '\(bucket ?? "")' at \(self); create it first"),
            ("InvalidAccessKeyId", "the store does not know the key; check AWS_ACCESS_KEY_ID"),
            ("SignatureDoesNotMatch", "the store refuses the signature; check AWS_SECRET_ACCESS_KEY"),
            ("get credentials", "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            ("AccessDenied", "the store refuses access to \(self); check the key's rights"),
            ("RequestTimeTooSkewed", "the clock of \(self) differs from this host's; set the time of both"),
            ("connection refused", "nothing answers at \(self); check --endpoint and that the server runs"),
            ("no such host", "the host of \(self) has no address; check --endpoint"),
        ]
        return causes.first { text.contains($0.0) }?.1
    }
}
