# shellcheck shell=bash
# Installs what is missing by the host's own package client. Sourced by quickstart and test.
#
# Every change to the system is listed first. The listing is worked out on a private copy of APT's state, so that it
# has the exact versions and changes nothing itself.
#
# The caller sets PROGRAM (for messages), ASSUME_YES and NO_INSTALL (yes or no). SYSTEM_ROOT stands before the
# paths of the system; tests set it, everybody else leaves it empty.

SYSTEM_ROOT=${SYSTEM_ROOT-}
BACKPORTS_FILE=$SYSTEM_ROOT/etc/apt/sources.list.d/visabuild-backports.sources
POLICY_FILE=$SYSTEM_ROOT/usr/sbin/policy-rc.d

# Packages that a build needs, each with the programs or files that show that it is there (any one of them).
# shellcheck disable=SC2034 # for the scripts that source this one
BUILD_PACKAGES=(
  qemu-system-x86=qemu-system-x86_64
  qemu-utils=qemu-img
  mmdebstrap=mmdebstrap
  e2fsprogs=mke2fs
  gpgv=gpgv
  ovmf=/usr/share/OVMF
  ca-certificates=update-ca-certificates:update-ca-trust
  debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg:/usr/share/keyrings/debian-archive-keyring.pgp
  gcc=cc
  libc6-dev=/usr/include/stdio.h
)

# Packages that the engine nspawn needs beside that.
# shellcheck disable=SC2034
NSPAWN_PACKAGES=(
  systemd-container=systemd-nspawn
  slirp4netns=slirp4netns
)

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# fail CODE LINE...
fail() {
  local code=$1 line
  shift
  for line in "$@"; do say "$line"; done
  exit "$code"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Is the program (a name) or the file (a path) there? Administration programs may be off an ordinary user's PATH.
present() {
  case $1 in
    /*) [[ -e $SYSTEM_ROOT$1 ]] ;;
    *) command -v "$1" >/dev/null || [[ -x $SYSTEM_ROOT/usr/sbin/$1 || -x $SYSTEM_ROOT/sbin/$1 ]] ;;
  esac
}

# Prints the packages among PACKAGE=PROBE:... of which no probe is there.
missing_of() {
  local entry probe probes
  for entry in "$@"; do
    IFS=: read -ra probes <<<"${entry#*=}"
    for probe in "${probes[@]}"; do
      if present "$probe"; then continue 2; fi
    done
    printf '%s\n' "${entry%%=*}"
  done
}

# A value of os-release(5).
os_release() {
  local file=$SYSTEM_ROOT/etc/os-release
  [[ -r $file ]] || return 0
  # shellcheck source=/dev/null
  (unset "$1" && . "$file" && printf '%s' "${!1-}")
}

has_apt() {
  [[ " $(os_release ID) $(os_release ID_LIKE) " == *" debian "* ]] && command -v apt-get >/dev/null
}

# Can KVM really run a guest? An openable device is not enough: without the CPU's flag a guest hangs.
kvm_usable() {
  [[ ${ACCELERATOR-} != tcg && -r $SYSTEM_ROOT/dev/kvm && -w $SYSTEM_ROOT/dev/kvm ]] &&
    grep -qE '^flags[[:space:]]*:.*[[:space:]](vmx|svm)([[:space:]]|$)' "$SYSTEM_ROOT/proc/cpuinfo"
}

# QEMU 7.2 without KVM crashed Debian 13's kernel under load, 10.0.2 did not. VERSION may have Debian's epoch.
qemu_is_bad() {
  local version=${1#*:}
  [[ ${version%%.*} =~ ^[0-9]+$ ]] && ((${version%%.*} < 8))
}

installed_qemu_version() {
  command -v qemu-system-x86_64 >/dev/null || return 0
  qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'
}

# --- APT, on a private copy of its state ---------------------------------------------------------------------------

APT_PRIVATE=()

apt_copy() {
  local parts=$SYSTEM_ROOT/etc/apt/sources.list.d
  mkdir -p "$WORK/lists/partial" "$WORK/sources.list.d"
  if [[ -d $parts ]]; then find "$parts" -maxdepth 1 -type f -exec cp -t "$WORK/sources.list.d" {} +; fi
  # APT reads as another user.
  chmod -R a+rX "$WORK"
  APT_PRIVATE=(
    -o "Dir::State::lists=$WORK/lists" -o "Dir::Etc::sourceparts=$WORK/sources.list.d"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1
  )
}

apt_refresh_copy() {
  apt-get "${APT_PRIVATE[@]}" -qq update >&2 || fail 3 "the package lists cannot be fetched; see APT's message above"
}

# Prints "NAME VERSION" for all that installing "$@" would install or upgrade.
apt_simulate() {
  local output
  output=$(apt-get "${APT_PRIVATE[@]}" -s --no-install-recommends --no-remove install "$@" 2>&1) ||
    fail 3 "APT cannot install $*:" "$output"
  awk '$1 == "Inst" { version = ($3 ~ /^\[/) ? $4 : $3; sub(/^\(/, "", version); print $2, version }' <<<"$output"
}

apt_candidate() {
  apt-cache "${APT_PRIVATE[@]}" policy "$1" | sed -n 's/^  Candidate: //p'
}

# Lines URI|RELEASE|CODENAME|COMPONENT|ORIGIN-FILE:LINE of the host's package indexes.
apt_indexes() {
  # The dollar signs are APT's.
  # shellcheck disable=SC2016
  apt-get "${APT_PRIVATE[@]}" indextargets \
    --format '$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(SOURCESENTRY)' 'Created-By: Packages'
}

# The sources file for the backports suite $1 of the host's own archive; nothing where APT knows the suite already.
backports_source() {
  local suite=$1 codename=${1%-backports} indexes uri entry keyring
  indexes=$(apt_indexes)
  if cut -d'|' -f2 <<<"$indexes" | grep -qxF -- "$suite"; then return; fi
  IFS='|' read -r uri entry < <(awk -F'|' -v name="$codename" \
    '($2 == name || $3 == name) && $4 == "main" { print $1 "|" $5; exit }' <<<"$indexes") ||
    fail 3 "APT's sources have no archive of $codename with the component main"
  entry=${entry%:*}
  keyring=$(sed -nE 's/^Signed-By:[[:space:]]*(\/[^ ]+).*/\1/p; s/^deb .*signed-by=([^] ]+).*/\1/p' "$entry" | head -n 1)
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suite"
  if [[ -n $keyring ]]; then printf 'Signed-By: %s\n' "$keyring"; fi
}

# --- What is to be done --------------------------------------------------------------------------------------------

PLAIN=()       # packages to install as the host's APT prefers
NEWER=()       # packages to install from the backports suite
SUITE=''       # that suite
NEW_SOURCE=''  # content of the sources file to add
SERVICES=no    # a package would start a service

# QEMU and qemu-img belong together: the old qemu-system-x86 removes a newer qemu-utils.
plan_qemu() {
  local installed codename
  installed=$(installed_qemu_version)
  if kvm_usable || ! qemu_is_bad "${installed:-$(apt_candidate qemu-system-x86)}"; then
    return
  fi
  codename=$(os_release VERSION_CODENAME)
  SUITE=$codename-backports
  NEWER=(qemu-system-x86 qemu-utils)
  NEW_SOURCE=$(backports_source "$SUITE")
  if [[ -n $NEW_SOURCE ]]; then
    printf '%s\n' "$NEW_SOURCE" >"$WORK/sources.list.d/${BACKPORTS_FILE##*/}"
    apt_refresh_copy
  fi
}

# plan_changes MISSING...: sets PLAIN, NEWER, SUITE, NEW_SOURCE.
plan_changes() {
  local package
  apt_copy
  apt_refresh_copy
  plan_qemu
  for package in "$@"; do
    if [[ $package == openssh-server ]]; then SERVICES=yes; fi
    if [[ " ${NEWER[*]-} " != *" $package "* ]]; then PLAIN+=("$package"); fi
  done
}

list_changes() {
  local plain='' newer=''
  if ((${#PLAIN[@]})); then plain=$(apt_simulate "${PLAIN[@]}"); fi
  if ((${#NEWER[@]})); then
    newer=$(apt_simulate -t "$SUITE" "${NEWER[@]}")
    if qemu_is_bad "$(awk '$1 == "qemu-system-x86" { print $2 }' <<<"$newer")" || [[ -z $newer ]]; then
      fail 3 "QEMU before 8 crashes guests without KVM, and $SUITE has no newer one:" \
        "build on a newer release of the distribution, or on a host with KVM"
    fi
  fi
  {
    say "changes to this system:"
    if [[ -n $NEW_SOURCE ]]; then printf '  new file %s\n%s\n' "$BACKPORTS_FILE" "$(indented "$NEW_SOURCE")"; fi
    if [[ -n $plain ]]; then printf '  packages\n%s\n' "$(indented "$plain")"; fi
    if [[ -n $newer ]]; then
      printf '  packages from %s, because QEMU before 8 crashes guests without KVM\n%s\n' "$SUITE" "$(indented "$newer")"
    fi
    if [[ $SERVICES == yes ]]; then printf '  openssh-server is neither started nor enabled\n'; fi
  } >&2
}

indented() { awk '{ print "      " $0 }' <<<"$1"; }

consent() {
  local answer
  if [[ $ASSUME_YES == yes || ! -t 0 ]]; then return; fi
  read -rp "$PROGRAM: make these changes? [y/N] " answer
  [[ $answer == [yY]* ]] || fail 3 "nothing was changed"
}

# Hundreds of lines that matter only when something fails.
apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
    --no-install-recommends --no-remove install "$@" >"$WORK/apt.log" 2>&1 || { tail -n 40 "$WORK/apt.log" >&2; return 3; }
}

make_changes() {
  local policy_added=no
  if [[ -n $NEW_SOURCE ]]; then printf '%s\n' "$NEW_SOURCE" | as_root tee "$BACKPORTS_FILE" >/dev/null; fi
  say "installing"
  as_root apt-get -qq update >&2
  # invoke-rc.d(8) asks this program whether it may start a service; 101 is no.
  if [[ $SERVICES == yes && ! -e $POLICY_FILE ]]; then
    policy_added=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY_FILE" >/dev/null
    as_root chmod 755 "$POLICY_FILE"
  fi
  local code=0
  if ((${#NEWER[@]})); then apt_install -t "$SUITE" "${NEWER[@]}" || code=$?; fi
  if ((code == 0 && ${#PLAIN[@]})); then apt_install "${PLAIN[@]}" || code=$?; fi
  if [[ $policy_added == yes ]]; then as_root rm -f "$POLICY_FILE"; fi
  if ((code)); then fail 3 "APT failed; see its last lines above"; fi
  if [[ $SERVICES == yes ]] && command -v systemctl >/dev/null; then
    as_root systemctl --quiet disable ssh.service ssh.socket 2>/dev/null || true
  fi
}

# ensure_packages PACKAGE=PROBE:...: everything above in order. Exits with 3 where something stays missing.
ensure_packages() {
  local missing
  mapfile -t missing < <(missing_of "$@")
  if ((${#missing[@]} == 0)) && { kvm_usable || ! qemu_is_bad "$(installed_qemu_version)"; }; then
    return
  fi
  if ! has_apt; then
    fail 3 "this is neither Debian nor a child of it; install what Debian calls:" \
      "${missing[*]:-QEMU 10 or newer (before 8 it crashes guests without KVM)}"
  fi
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  plan_changes "${missing[@]}"
  list_changes
  if [[ $NO_INSTALL == yes ]]; then
    fail 3 "stopping because of --no-install; nothing was changed"
  fi
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    fail 3 "only root can install packages, and there is no sudo: run this as root, or install them yourself"
  fi
  consent
  make_changes
}

# --- Rust ----------------------------------------------------------------------------------------------------------

# ensure_cargo REPOSITORY: the toolchain is the user's own affair; says how to get it.
ensure_cargo() {
  local wanted version
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$1/Cargo.toml")
  if ! command -v cargo >/dev/null && [[ -x ${HOME-}/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
  command -v cargo >/dev/null ||
    fail 3 "there is no cargo: install Rust $wanted or newer with rustup (see https://rustup.rs)"
  version=$(cargo --version | awk '{ print $2 }')
  [[ $(printf '%s\n%s\n' "$wanted" "$version" | sort -V | head -n 1) == "$wanted" ]] ||
    fail 3 "cargo is $version, Rust $wanted or newer is needed: \`rustup update\`, or see https://rustup.rs"
}
