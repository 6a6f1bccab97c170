#!/usr/bin/env bash
# A uv that makes an environment whose python is $STUB/command.
set -euo pipefail
echo "uv $*" >>"$STUB/installs"
[[ $1 == venv ]] || exit 0
target=${!#}
mkdir -p "$target/bin"
ln -s "$STUB/command" "$target/bin/python"
