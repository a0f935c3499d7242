# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env. Where package managers put programs for their user.
PATH=$PATH:$HOME/.npm-global/bin:$HOME/go/bin:$HOME/.cargo/bin:$HOME/.local/bin
