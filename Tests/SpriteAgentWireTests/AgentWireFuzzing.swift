// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAgentWire

// What must hold for any bytes whatever. The unit tests try a fixed number of inputs, `make fuzz` as many as there is
// time for.

/// Cuts bytes into frames and reads each; nil if nothing is wrong with how that went.
private func framesProblem(_ bytes: [UInt8], bodyBytesMax: Int, read: (Frame) -> String?) -> String? {
    var whole = FrameDecoder(bodyBytesMax: bodyBytesMax)
    whole.append(bytes)
    var pieces = FrameDecoder(bodyBytesMax: bodyBytesMax)
    // In pieces of different sizes the same frames have to come out.
    var next = 0
    while true {
        let frame: Frame?
        do {
            frame = try whole.next()
        } catch {
            if case .tooLong(let length, let limit) = error, length <= limit { return "a short frame was refused" }
            return nil
        }
        var other: Frame?
        while other == nil {
            do { other = try pieces.next() } catch { return "only in pieces it was refused: \(error)" }
            guard other == nil else { break }
            guard next < bytes.count else { break }
            let end = min(bytes.count, next + 1 + Int(bytes[next] & 15))
            pieces.append(bytes[next..<end])
            next = end
        }
        if frame != other { return "a frame is another in pieces" }
        guard let frame else { return nil }
        if frame.body.count > bodyBytesMax { return "a frame of \(frame.body.count) bytes came through" }
        if let problem = read(frame) { return problem }
    }
}

/// What the daemon reads from inside a sprite.
func agentEventProblem(_ bytes: [UInt8]) -> String? {
    framesProblem(bytes, bodyBytesMax: 64 << 10) { frame in
        guard let event = try? AgentEvent(frame) else { return nil }
        // Bytes that are no UTF-8 are replaced, so it is the second reading that has to be like the first.
        let again = event.frame(descriptorCount: Int(frame.descriptorCount))
        return (try? AgentEvent(again)) == event ? nil : "\(event) is another after the way back"
    }
}

/// What PID 1 reads from the daemon.
func agentRequestProblem(_ bytes: [UInt8]) -> String? {
    framesProblem(bytes, bodyBytesMax: AgentRequest.bodyBytesMax) { frame in
        guard let request = try? AgentRequest(frame) else { return nil }
        let again = request.frame(descriptorCount: Int(frame.descriptorCount))
        return (try? AgentRequest(again)) == request ? nil : "\(request) is another after the way back"
    }
}
