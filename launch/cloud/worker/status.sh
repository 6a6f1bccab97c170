#!/usr/bin/env bash
# One line: launch HOST STATE DIGEST. Beside the words of supervise.sh a state can be: absent (not set up), ready (set up
# and never started), starting, dead (the supervisor is gone, e.g. after a reboot).
set -euo pipefail

main() {
  source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
  local word=absent digest=-
  if [[ -f $directory/ready && -f $directory/digest ]]; then
    digest=$(<"$directory/digest")
    word=ready
    [[ ! -f $state ]] || word=$(<"$state")
  fi
  case $word in
    running | waiting | starting) at_work || word=dead ;;
  esac
  # It may have ended between the two looks.
  if [[ $word == dead && $(<"$state") =~ ^(done|mistake|failed|stopped|halted)$ ]]; then word=$(<"$state"); fi
  echo "launch $(hostname) $word $digest"
}

main "$@"
