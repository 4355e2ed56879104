#!/usr/bin/env bash
# Compiles the rules and the codec in place: deploy/compile.sh FOLDER [MYPYC].
#
# With mypyc streams/core, and what calls it for every record (what else there is was tried and gains
# nothing); from C what Avro's bytes go through (compile_native.sh), for the Python beside mypyc.
#
# Optional, and nothing of the logic changes: the same sources, the same tests, the same bytes in
# the changelog, at less than half the instructions of an event (docs/performance.md). FOLDER is
# one that holds streams/, such as an image's site-packages; it needs a C compiler and mypy[mypyc].
set -euo pipefail
folder="${1:?the folder that holds streams/}"
mypyc="$(realpath "${2:-$(command -v mypyc)}")"
here="$(realpath "$(dirname "${BASH_SOURCE[0]}")")"
caches="$here/inline_caches.h"
cd "$folder"
# Values that every part hands on are structs of msgspec, which a compiler cannot make.
rules="$(find streams/core -name '*.py' ! -name __init__.py ! -name model.py ! -name policy.py \
	! -name terms.py ! -name claims.py ! -name reasons.py | sort) streams/agents/recipient_work.py"
# Read at the top of every C file. Not CFLAGS, which would replace those of Python, with -fwrapv.
export CPPFLAGS="${CPPFLAGS:-} -include '$caches'"
# shellcheck disable=SC2086 # a list on purpose
"$mypyc" $rules >mypyc.log 2>&1 || { tail -40 mypyc.log >&2; exit 1; }
rm -rf build mypyc.log
"$here/compile_native.sh" . "$(dirname "$mypyc")/python"
