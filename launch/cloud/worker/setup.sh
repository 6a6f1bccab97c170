#!/usr/bin/env bash
# Unpack ~/NAME.tar.gz and install what it needs; nothing to do where that has been done. Exit status 2: a run with
# other settings is at work.
set -euo pipefail

install_project() {
  read_settings
  mkdir -p "$HOME/.cache/huggingface"
  if [[ -n $image ]]; then
    find_docker
    local registry=${image%%/*}
    if [[ $registry == *-docker.pkg.dev || $registry == *gcr.io ]] && command -v gcloud >/dev/null; then
      "${docker[@]}" login --username oauth2accesstoken --password-stdin "https://$registry" \
        < <(gcloud auth print-access-token) >/dev/null
    fi
    "${docker[@]}" pull "$image"
    return
  fi
  local key
  key=$(printf '%s %s\n' "$python" "$extra" | cat - "$directory/code/pyproject.toml" | sha256sum)
  [[ ! -f $directory/venv/installed || $(<"$directory/venv/installed") != "$key" ]] || return 0
  if ! command -v uv >/dev/null; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
      sudo -n apt-get update -qq
      sudo -n apt-get install -qq -y python3-pip
    fi
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user "$uv" # TPU VMs come with Python 3.10, too old
    PATH=$HOME/.local/bin:$PATH
  fi
  rm -rf "$directory/venv"
  uv venv --quiet --python "$python" "$directory/venv"
  uv pip install --quiet --python "$directory/venv/bin/python" --editable "$directory/code[$extra]"
  echo "$key" >"$directory/venv/installed"
}

main() {
  source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
  local package=$HOME/$name.tar.gz secrets=$HOME/$name.secrets digest
  if [[ -f $secrets ]]; then
    chmod 600 "$secrets"
    mv "$secrets" "$directory/secrets.sh"
  fi
  digest=$(sha256sum "$package" | cut -d ' ' -f 1)
  if [[ ! -f $directory/digest || $(<"$directory/digest") != "$digest" ]]; then
    if at_work; then
      echo "error: $name is at work with other settings; stop it first" >&2
      exit 2
    fi
    rm -rf "$directory/new" "$directory/digest" "$directory/ready"
    mkdir "$directory/new"
    tar -xzf "$package" -C "$directory/new"
    rm -rf "$directory/code"
    mv "$directory/new/code" "$directory/code"
    mv "$directory/new"/settings.sh "$directory/"
    rm -rf "$directory/new" "$state"
    echo "$digest" >"$directory/digest"
  fi
  install_project
  touch "$directory/ready"
}

main "$@"
