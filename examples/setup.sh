# SPDX-License-Identifier: MIT
# Set-up shared by tests/run.sh, examples/quickstart.sh and .ci/run, which source it: finds what is missing, and installs that
# and nothing else from Debian's package registry.

pavise_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$@"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# What Pavise is built and tested with: PACKAGE:PROBE, where the probe is a command, or a file under an include directory.
pavise_packages=(
  g++:c++ cmake:cmake ninja-build:ninja
  libeigen3-dev:eigen3/Eigen/Core doctest-dev:doctest/doctest.h libstb-dev:stb/stb_image.h zlib1g-dev:zlib.h
  nlohmann-json3-dev:nlohmann/json.hpp libcli11-dev:CLI/CLI.hpp libboost-math-dev:boost/math/distributions/beta.hpp
  libjpeg62-turbo-dev:jpeglib.h
)
pavise_dataset=dataset-fashion-mnist:/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

# Whether the probe of PACKAGE:PROBE is there, from this package or from elsewhere.
is_there() {
  local package=${1%%:*} probe=${1#*:} directory
  case $probe in
    /*) [ -e "$probe" ] ;;
    *.h|*.hpp|*/*)
      for directory in /usr/include /usr/local/include; do
        if [ -e "$directory/$probe" ]; then return 0; fi
      done
      dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ;;
    *) command -v "$probe" >/dev/null ;;
  esac
}

can_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# apt_get ARGUMENTS...: apt-get as root, without questions; silent, unless it fails.
apt_get() {
  local log status=0 sudo=()
  if [ "$(id -u)" != 0 ]; then sudo=(sudo -n); fi
  log=$(mktemp)
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 || status=$?
  if [ $status -ne 0 ]; then cat "$log" >&2; fi
  rm -f "$log"
  return $status
}

# set_up PACKAGE:PROBE...: installs those that are missing; returns at once where everything is there. Without root it prints
# the one line to run as root, and ends the script. Data sets are installed apart: they may fail, and `is_there` tells.
set_up() {
  local entry required=() data=()
  for entry in "$@"; do
    if is_there "$entry"; then continue; fi
    case $entry in
      dataset-*) data+=("${entry%%:*}") ;;
      *) required+=("${entry%%:*}") ;;
    esac
  done
  local missing=("${required[@]}" "${data[@]}")
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi
  if ! command -v apt-get >/dev/null; then
    say "This is no Debian system. Missing, by their Debian names: ${missing[*]}" >&2
    if [ ${#required[@]} -eq 0 ]; then return 0; fi
    fail "Please install them, then try again."
  fi
  if ! can_be_root; then
    say "Something is missing, and only root can install it. Please run this line as root, then try again:" >&2
    fail "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  say "Installing ${missing[*]} (a minute or two on a fresh machine) ..."
  apt_get update || say "apt-get update failed; going on with the lists that are there." >&2
  if [ ${#required[@]} -ne 0 ]; then
    apt_get install -y --no-install-recommends "${required[@]}" || fail "These packages could not be installed: ${required[*]}"
  fi
  if [ ${#data[@]} -ne 0 ]; then
    apt_get install -y --no-install-recommends "${data[@]}" || say "Could not be installed: ${data[*]}" >&2
  fi
}

cores() { nproc 2>/dev/null || echo 2; }
