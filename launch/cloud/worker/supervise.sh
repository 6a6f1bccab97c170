#!/usr/bin/env bash
# Run the command of settings.sh until it has ended well. `state` says how that goes:
#   running          since the command was started       waiting   it broke off and will be started again
#   done             it exited 0                         stopped   this script got SIGTERM and passed it on
#   halted           the same, from stop.sh
#   mistake          it exited 2: whoever set it up has to mend something
#   failed           it broke off too often without running for `steady` seconds in between
set -euo pipefail

run() {
  if [[ -z $image ]]; then
    forward "${command[@]}"
    return
  fi
  local words=(run --rm --init --name "$name" --net=host --ipc=host) variable
  if [[ $extra == cuda ]]; then words+=(--gpus all); else words+=(--privileged); fi
  for variable in "${variables[@]}"; do words+=(--env "$variable"); done # names only: values stay off command lines
  words+=(--volume "$HOME/.cache/huggingface:/root/.cache/huggingface")
  find_docker
  "${docker[@]}" rm --force "$name" >/dev/null 2>&1 || true
  forward "${docker[@]}" "${words[@]}" "$image" "${command[@]}"
}

leave() {
  if [[ -f $directory/halt ]]; then report halted; else report stopped; fi
  exit 143
}

report() {
  echo "$1" >"$state.new" && mv "$state.new" "$state"
  echo "[$(date -u +%FT%TZ)] supervisor: $1${2:+, $2}"
}

main() {
  source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
  source "$(dirname "${BASH_SOURCE[0]}")/forward.sh"
  read_settings
  if [[ -z $image ]]; then
    cd "$directory/code"
    PATH=$directory/venv/bin:$PATH
  fi
  exec 9>>"$directory/lock"
  flock --timeout 2 9 || exit 0 # held by another supervisor, or for a moment by whoever looks
  echo $$ >"$directory/pid"
  exec >>"$log" 2>&1
  local failures=0 pause=$first_pause status began
  while true; do
    report running
    began=$SECONDS
    status=0
    run || status=$?
    [[ -z $stopping ]] || leave
    case $status in
      0) report 'done' && exit 0 ;;
      2) report mistake 'exit status 2' && exit 2 ;;
    esac
    if ((SECONDS - began >= steady)); then failures=0 pause=$first_pause; fi
    failures=$((failures + 1))
    if ((failures > restarts)); then report failed "$failures times, the last with exit status $status" && exit 1; fi
    report waiting "exit status $status, again in $pause s ($failures of $restarts)"
    forward sleep "$pause" || true
    [[ -z $stopping ]] || leave
    pause=$((pause * 2 < most_pause ? pause * 2 : most_pause))
  done
}

main "$@" # the last line: bash has read all of this file before any of it may be replaced
