#!/usr/bin/env bash
# What a graphics card says, in at most eight minutes and on one page: kernels against their twins, times of rendering, a
# person by `quick` and one by `standard` with random networks of Stable Diffusion 1.5's size. Without a card it does what
# the processor can, and says what was left out.
#
#   bash tools/check_card.sh [--minutes 8] [--only SECTION,...] [--files]     # PYTHON names the interpreter
#
# --files prints what it needs of the tree: all but the weights (68 of 87 MB) first, then those.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then PYTHON=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3); fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" tools/check_card.py "$@"
