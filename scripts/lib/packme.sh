# shellcheck shell=bash
# Installs packme itself, against which tests/packme.rs holds what `visabuild packme` writes. Sourced by test, after
# venv.sh.

# ensure_packme REPOSITORY
ensure_packme() {
  ensure_venv "$1" packme packme
}
