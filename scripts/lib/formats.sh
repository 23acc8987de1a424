# shellcheck shell=bash
# Installs what the tests hold answer files against: pykickstart, which is Anaconda's own parser. Sourced by test, after
# venv.sh.

# ensure_formats REPOSITORY
ensure_formats() {
  ensure_venv "$1" formats pykickstart
}
