# shellcheck shell=bash
# Installs what the tests hold software bills of materials against: the tools of SPDX and of CycloneDX. Sourced by test,
# after venv.sh.

# ensure_bills REPOSITORY
ensure_bills() {
  ensure_venv "$1" bills 'the tools of SPDX and CycloneDX'
}
