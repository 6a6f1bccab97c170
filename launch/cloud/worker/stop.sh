#!/usr/bin/env bash
# End the run as a preemption would: SIGTERM, a checkpoint, SIGKILL after `grace` seconds, no restart.
set -euo pipefail

main() {
  source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
  read_settings
  touch "$directory/halt" # for supervise.sh and whoever looks meanwhile: this is no preemption
  if at_work; then
    kill -TERM "$(<"$directory/pid")" 2>/dev/null || true
    for ((i = 0; i < grace * 5; i++)); do
      at_work || break
      sleep 0.2
    done
    if at_work; then
      echo "$name has not ended within $grace s; it is killed"
      kill_group
    fi
  fi
  echo halted >"$state"
  echo "$name: halted"
}

main "$@"
