// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

extension Toolbox {
    var spriteTools: [Tool] { [listSprites, getSprite, createSprite, forkSprite, destroySprite] }

    private var listSprites: Tool {
        Tool(
            name: "list_sprites", title: "List sprites",
            about: "Lists sprites (persistent Linux computers) in name order, 50 at once. Changes nothing.",
            effect: .reads,
            parameters: [
                .text("prefix", "Only names that begin with this.", bytesMax: 63),
                .text("cursor", "next_cursor of the call before.", bytesMax: 63),
            ]
        ) { call in
            let page = try await world.control.list(
                prefix: call.arguments.text("prefix") ?? "", after: call.arguments.text("cursor"), limit: 50,
                in: scope)
            var answer: [String: JSON] = ["sprites": .list(page.sprites.map(json))]
            if let next = page.next { answer["next_cursor"] = next.json }
            return ToolResult(.object(answer))
        }
    }

    var getSprite: Tool {
        Tool(
            name: "get_sprite", title: "Show a sprite",
            about: "Shows a sprite's state (running, warm = frozen, cold = stopped; any use wakes it) and settings. "
                + "Changes nothing.",
            effect: .reads, parameters: spriteParameter
        ) { call in
            ToolResult(json(try await world.control.get(try await sprite(call.arguments))))
        }
    }

    private var createSprite: Tool {
        Tool(
            name: "create_sprite", title: "Create a sprite",
            about: "Creates and starts a new persistent Linux computer in milliseconds. Undo: destroy_sprite.",
            effect: .adds,
            parameters: [
                .text("name", "1 to 63 of a-z, 0-9 and '-'.", required: true, bytesMax: 63),
                .text("base", "The root filesystem it begins with; the newest if absent.", bytesMax: 100),
                .number("memory_mib", Limits.memoryMiBMin...(1 << 24), nil, "Limit of memory in MiB; none if absent."),
                Parameter(name: "labels", kind: .texts(countMax: Limits.labelCountMax), about: "Labels to find it by."),
            ]
        ) { call in
            let arguments = call.arguments
            var creation = SpriteCreation(
                name: try allowed(try SpriteName(arguments.text("name") ?? "")),
                base: try arguments.text("base").map { try BaseName($0) }, labels: arguments.texts("labels") ?? [])
            creation.limits.memoryMiB = arguments.number("memory_mib")
            guard creation.labels.allSatisfy({ (1...Limits.labelBytesMax).contains($0.utf8.count) }) else {
                throw ToolFailure("each label has 1 to \(Limits.labelBytesMax) bytes")
            }
            return ToolResult(json(try await world.control.create(creation)))
        }
    }

    private var forkSprite: Tool {
        Tool(
            name: "fork_sprite", title: "Fork a sprite",
            about: "Makes a new sprite from the state of another now, or from one of its checkpoints; takes "
                + "milliseconds and shares the disk's content. The original goes on unchanged. Undo: destroy_sprite.",
            effect: .adds,
            parameters: spriteParameter + [
                .text("name", "Name of the new sprite.", required: true, bytesMax: 63),
                .text(
                    "checkpoint", "A checkpoint of the original, such as v3; its state of now if absent.", bytesMax: 40),
            ]
        ) { call in
            let source = try await sprite(call.arguments)
            let checkpoint = try call.arguments.text("checkpoint").map { try checkpointID($0) }
            return ToolResult(
                json(
                    try await world.control.fork(
                        source, to: try allowed(try SpriteName(call.arguments.text("name") ?? "")),
                        checkpoint: checkpoint)))
        }
    }

    private var destroySprite: Tool {
        Tool(
            name: "destroy_sprite", title: "Destroy a sprite",
            about: "Kills everything in a sprite and deletes its disk and all its checkpoints. CANNOT be undone.",
            effect: .destroys, parameters: spriteParameter
        ) { call in
            let name = try await sprite(call.arguments)
            try await world.control.destroy(name)
            return ToolResult(["destroyed": .string(name.rawValue)])
        }
    }

    func json(_ view: SpriteView) -> JSON {
        let sprite = view.sprite
        var object: [String: JSON] = [
            "name": sprite.name.rawValue.json, "status": view.status.rawValue.json, "base": sprite.base.rawValue.json,
            "labels": .list(sprite.labels.map(\.json)), "created_at": sprite.createdAt.json,
            "descends_from_checkpoint": sprite.source.rawValue.json,
        ]
        if let memory = sprite.limits.memoryMiB { object["memory_mib"] = .integer(memory) }
        return .object(object)
    }

    var policyTools: [Tool] {
        [
            Tool(
                name: "get_network_policy", title: "Show the network policy",
                about: "Shows which names the sprite may reach; without rules, everything. Changes nothing; only the "
                    + "operator outside can change it.",
                effect: .reads, parameters: spriteParameter
            ) { call in
                let text = try await world.control.policy(try await sprite(call.arguments), .network)
                return ToolResult(text.flatMap { JSON.parse(Array($0.utf8)) } ?? ["rules": []])
            }
        ]
    }
}
