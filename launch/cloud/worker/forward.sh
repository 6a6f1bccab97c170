# shellcheck shell=bash
# Run a command in such a way that SIGTERM reaches it and is remembered. A command that saves and exits 0 on SIGTERM has
# stopped, not finished, and only who was asked to stop can tell.
child=''
stopping=''

pass_on() {
  stopping=yes
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap pass_on TERM INT

# The status of "$@".
forward() {
  [[ -z $stopping ]] || return 143
  local status
  "$@" &
  child=$!
  [[ -z $stopping ]] || pass_on # it came before there was a child
  while true; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break # a trap ends `wait` early
  done
  child=''
  return "$status"
}
