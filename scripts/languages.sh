#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Builds the default layer of language runtimes and tests every language of it in new sprites: 10 minutes.
# Usage: sudo [LAYER=published folder] [BASE_TAR=its base] scripts/languages.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"
need_root "test the languages: sandboxes, mounts and bridges are made"
scripts/install-deps.sh
scripts/build.sh debug
scripts/build.sh guest
scripts/venv.sh "$ROOT/.build-venv" tests/requirements.txt
scratch=$(mktemp -d /var/tmp/sprite-languages-XXXXXX)
export SPRITE_TEST_DIR=$scratch PYTHONDONTWRITEBYTECODE=1
export SPRITED_BINARY=$ROOT/.build/debug/sprited SPRITE_BINARY=$ROOT/.build/debug/sprite
export SPRITE_ENV_BINARY=$ROOT/.build-static/release/sprite-env
[ -z "${LAYER:-}" ] || SPRITE_TEST_LAYER=$(realpath "$LAYER")
[ -z "${BASE_TAR:-}" ] || SPRITE_TEST_BASE_TAR=$(realpath "$BASE_TAR")
export SPRITE_TEST_LAYER=${SPRITE_TEST_LAYER:-} SPRITE_TEST_BASE_TAR=${SPRITE_TEST_BASE_TAR:-}
status=0
(cd tests && "$ROOT/.build-venv/bin/python" -m pytest -p no:cacheprovider --timeout 3600 languages) || status=$?
[ "$status" -ne 0 ] || rm -rf --one-file-system "$scratch"
exit "$status"
