# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Fixtures of every test below; see support/fixtures.py."""

pytest_plugins = ["support.fixtures"]
