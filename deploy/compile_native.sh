#!/usr/bin/env bash
# Compiles the Avro codec in place: deploy/compile_native.sh FOLDER [PYTHON].
#
# streams/wire/native/ becomes streams.wire._native, for the Python that will run it. FOLDER is one
# that holds streams/. Optional: without it streams/wire/ generates Python that does the same.
set -euo pipefail
folder="${1:?the folder that holds streams/}"
python="${2:-python3}"
say() { "$python" -c "import sysconfig; print(sysconfig.$1)"; }
"${CC:-cc}" -O3 -shared -fPIC -fvisibility=hidden -Wall -Wextra -Werror \
	-Wno-unused-parameter -Wno-missing-field-initializers -Wno-cast-function-type \
	"-I$(say 'get_path("include")')" \
	-o "$folder/streams/wire/_native$(say 'get_config_var("EXT_SUFFIX")')" \
	"$folder"/streams/wire/native/*.c
