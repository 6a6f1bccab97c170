#!/usr/bin/env bash
# Start the supervisor, which outlives this connection; nothing to do where one is at work. $1: the digest of what setup
# should have unpacked.
set -euo pipefail

main() {
  source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
  if [[ ! -f $directory/ready || $(<"$directory/digest") != "$1" ]]; then
    echo "error: $name is not set up on $(hostname), or with other settings; run setup first" >&2
    exit 2
  fi
  if at_work; then
    case $(<"$state") in
      running | waiting | starting) echo "$name is at work already" && exit 0 ;;
      *) kill_group ;; # the command has ended, and something that it started has not
    esac
  fi
  read_settings
  rm -f "$directory/halt"
  echo starting >"$state"
  # As a service it gets SIGTERM when the machine goes down, alone, and time to pass it on.
  if [[ -d /run/systemd/system ]] && sudo -n true 2>/dev/null; then
    sudo -n systemd-run --quiet --collect --unit="rlaifv-$name" --uid="$(id -un)" --setenv=HOME="$HOME" \
      --property=KillMode=mixed --property=TimeoutStopSec="$grace" bash "$here/supervise.sh"
  else
    setsid nohup bash "$here/supervise.sh" </dev/null >/dev/null 2>&1 &
  fi
  for _ in {1..100}; do
    [[ $(<"$state") == starting ]] || break
    sleep 0.1
  done
  echo "$name: $(<"$state")"
}

main "$@"
