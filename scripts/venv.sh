#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
# Makes a Python environment with the packages of a requirements file; does nothing if it is there and current.
# Usage: scripts/venv.sh FOLDER REQUIREMENTS
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
folder=$1
requirements=$2

stamp=$(sha256sum "$requirements" | cut -d' ' -f1)
[ "$(cat "$folder/requirements.sha256" 2>/dev/null)" != "$stamp" ] || exit 0

# The distribution's Python first: install-deps.sh gave it its venv module.
for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        rm -rf "$folder"
        "$python" -m venv "$folder"
        "$folder/bin/pip" --quiet --disable-pip-version-check install --requirement "$requirements"
        echo "$stamp" >"$folder/requirements.sha256"
        exit 0
    fi
done
die "cannot make $folder: no Python 3.11 or later with the modules venv and ensurepip; install python3-venv"
