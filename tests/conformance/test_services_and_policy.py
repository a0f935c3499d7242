# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Services and network policies through the official Python client."""

from sprites import Sprite
from sprites.types import NetworkPolicy, PolicyRule


def test_services(box: Sprite) -> None:
    assert box.list_services() == []
    events = list(box.create_service("web", "sh", ["-c", "echo up; sleep 60"], http_port=8080, duration=0.3))
    assert [event.type for event in events][0] == "started" and events[-1].type == "complete"
    (service,) = box.list_services()
    assert (service.name, service.cmd, service.http_port) == ("web", "sh", 8080)
    assert box.get_service("web").state.status == "running"
    box.signal_service("web", "HUP")
    assert list(box.stop_service("web", timeout=2))[-1].type == "complete"
    assert box.get_service("web").state.status == "stopped"
    assert list(box.start_service("web", duration=0.3))[-1].type == "complete"
    box.delete_service("web")
    assert box.list_services() == []


def test_network_policy(box: Sprite) -> None:
    assert box.get_network_policy().rules == []
    policy = NetworkPolicy(rules=[
        PolicyRule(domain="*.example.com", action="allow"), PolicyRule(include="defaults"),
        PolicyRule(domain="*", action="deny"),
    ])
    box.update_network_policy(policy)
    assert box.get_network_policy().rules == policy.rules
