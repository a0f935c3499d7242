// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Where in `…/services` a request goes.
enum ServiceRoute: Sendable, Equatable {
    case list
    case signal
    case one(String)
    case start(String)
    case stop(String)
    case restart(String)
    case logs(String)

    init?(_ rest: [String]) {
        switch (rest.count, rest.last) {
        case (0, _): self = .list
        case (1, "signal"): self = .signal
        case (1, .some(let name)): self = .one(name)
        case (2, "start"): self = .start(rest[0])
        case (2, "stop"): self = .stop(rest[0])
        case (2, "restart"): self = .restart(rest[0])
        case (2, "logs"): self = .logs(rest[0])
        default: return nil
        }
    }

    var methods: [String] {
        switch self {
        case .list, .logs: ["GET", "HEAD"]
        case .signal, .start, .stop, .restart: ["POST"]
        case .one: ["GET", "HEAD", "PUT", "DELETE"]
        }
    }
}
