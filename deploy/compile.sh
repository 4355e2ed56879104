#!/usr/bin/env bash
# Compiles the rules, the sinks and the codec in place: deploy/compile.sh FOLDER [MYPYC].
#
# With mypyc streams/core and what calls it for every record, and what each delivery goes through on
# its way to a provider (the engine and the decide step around the rules were tried and gain
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
# Values that every part hands on are structs of msgspec, which a compiler cannot make: a module
# that has one stays as it is.
rules="$(find streams/core -name '*.py' ! -name __init__.py ! -name model.py ! -name policy.py \
	! -name terms.py ! -name claims.py ! -name reasons.py | sort) streams/agents/recipient_work.py"
delivering="agents/deliver_commits agents/deliver_item agents/deliver_lane agents/deliver_log
	agents/deliver_metrics agents/deliver_partition agents/deliver_positions agents/deliver_records
	engine/clock engine/packing sinks/apns sinks/breaker sinks/budgets sinks/dispatch
	sinks/health sinks/http2_client sinks/http2_connection sinks/http2_frames sinks/payload
	sinks/prune templates/fit templates/render web/deliver_pages web/rolling"
# Read at the top of every C file. Not CFLAGS, which would replace those of Python, with -fwrapv.
export CPPFLAGS="${CPPFLAGS:-} -include '$caches'"
# shellcheck disable=SC2046,SC2086 # lists on purpose
"$mypyc" --ignore-missing-imports $rules $(printf 'streams/%s.py ' $delivering) \
	>mypyc.log 2>&1 || { tail -40 mypyc.log >&2; exit 1; }
rm -rf build mypyc.log
"$here/compile_native.sh" . "$(dirname "$mypyc")/python"
