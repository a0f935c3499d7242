# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What the black-box tests stand on: a daemon to test, a client of our own, a view of the host."""
