# shellcheck shell=bash disable=SC2034  # the scripts beside this one use what is set here
# Where things are on a worker. ~/rlaifv/NAME/ holds settings.sh (written by launch/cloud/stage.py), worker/ (these
# scripts), code/, venv/, log, and state: one word that supervise.sh writes and status.sh reads.
directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$directory/worker
name=$(basename "$directory")
state=$directory/state
log=$directory/log

# What settings.sh sets.
image='' extra='' python='' uv=''                              # what to install
command=() variables=()                                        # what to run; names of what a container may see
restarts=0 first_pause=0 most_pause=0 steady=0 grace=0         # times, and seconds

read_settings() {
  # shellcheck source=/dev/null
  source "$directory/settings.sh"
  # shellcheck source=/dev/null
  [[ ! -f $directory/secrets.sh ]] || source "$directory/secrets.sh"
}

# True while a supervisor, or the command it has started, holds the lock.
at_work() { ! flock --nonblock "$directory/lock" true; }

# Kill what supervisor and command have left behind; they are a process group of their own.
kill_group() {
  kill -KILL -- "-$(<"$directory/pid")" 2>/dev/null || true
  for _ in {1..50}; do
    at_work || return 0
    sleep 0.1
  done
}

# How docker is called here.
docker=()
find_docker() {
  if docker info >/dev/null 2>&1; then docker=(docker); else docker=(sudo -n --preserve-env docker); fi
}
