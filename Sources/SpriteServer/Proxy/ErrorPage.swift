// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
import NIOHTTP1
import SpriteAPI

/// What a browser shows when a sprite's URL cannot answer.
struct ErrorPage {
    let html: ByteBuffer

    /// - Parameter isAsleep: The sprite sleeps and cannot wake.
    init(_ reply: ErrorReply, isAsleep: Bool) {
        let title =
            switch reply.status {
            case _ where isAsleep: "This sprite is asleep and cannot wake"
            case .unauthorized: "This sprite is private"
            case .notFound: "There is no such sprite"
            case .badGateway: "Nothing answers in this sprite"
            default: "This sprite cannot answer"
            }
        let hint =
            switch reply.status {
            case .unauthorized:
                "Sign in as user <code>bearer</code> with the server's token as password, or send it as "
                    + "<code>Authorization: Bearer TOKEN</code>. <code>sprite url update --auth public</code> opens it to everybody."
            case .badGateway: "The page comes up by itself once a server listens there: reload it then."
            default: ""
            }
        html = ByteBuffer(
            string: """
                <!doctype html>
                <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
                <title>\(title)</title>
                <style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;padding:0 1em;color:#222}
                h1{font-size:1.4em}p{color:#555}@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#eee}p{color:#bbb}}</style>
                </head><body><h1>\(title)</h1><p>\(Self.escape(reply.body.message))</p><p>\(hint)</p>
                <p><small>\(reply.status.code) \(Self.escape(reply.body.error))</small></p></body></html>

                """)
    }

    private static func escape(_ text: String) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
