#!/usr/bin/env bash
# Run "$@" once, for Kubernetes: exit status 143 after SIGTERM, whatever the command made of it, so that a pod that was
# evicted does not count as one that has finished.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/forward.sh"
status=0
forward "$@" || status=$?
[[ -z $stopping ]] || status=143
exit "$status"
