#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# The long runs: random work on many sprites, and random sequences against a model. A run of all tests has a minute of
# them. Builds first; needs root.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
need_root "run the soak: sandboxes, mounts and bridges are made"
export SPRITE_SOAK_SECONDS=${SPRITE_SOAK_SECONDS:-7200} SPRITE_SOAK_SPRITES=${SPRITE_SOAK_SPRITES:-50}
export SPRITE_SOAK_WORKERS=${SPRITE_SOAK_WORKERS:-10}
export SPRITE_MODEL_EXAMPLES=${SPRITE_MODEL_EXAMPLES:-200} SPRITE_MODEL_STEPS=${SPRITE_MODEL_STEPS:-100}
scripts/build.sh debug
scripts/build.sh guest
scripts/venv.sh "$ROOT/.build-venv" tests/requirements.txt
scratch=$(mktemp -d /var/tmp/sprite-soak-XXXXXX)
export SPRITE_TEST_DIR=$scratch
export SPRITED_BINARY=$ROOT/.build/debug/sprited SPRITE_BINARY=$ROOT/.build/debug/sprite
export SPRITE_ENV_BINARY=$ROOT/.build-static/release/sprite-env
status=0
(
    cd tests
    "$ROOT/.build-venv/bin/python" -m pytest -s -p no:cacheprovider daemon/test_soak.py daemon/test_model.py
) || status=$?
[ "$status" -ne 0 ] || rm -rf --one-file-system "$scratch"
exit "$status"
