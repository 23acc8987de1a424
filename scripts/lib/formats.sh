# shellcheck shell=bash
# Installs what the tests hold answer files against: pykickstart, which is Anaconda's own parser. Sourced by test, after
# packages.sh. It is a virtual environment, target/tmp/formats/venv; one that is there and current is left alone.

# ensure_formats REPOSITORY
ensure_formats() {
  local requirements=$1/tests/support/formats/requirements.txt folder wanted venv
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$1/target}/tmp/formats")
  venv=$folder/venv
  mkdir -p "$folder"
  exec {FORMATS_LOCK}>"$folder/lock"
  flock "$FORMATS_LOCK"
  wanted=$({ python3 --version && cat "$requirements"; } | sha256sum | cut -d' ' -f1)
  if [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$wanted" ]]; then
    say "installing pykickstart for the tests"
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --no-deps --requirement "$requirements"; } >"$folder/pip.log" 2>&1; then
      fail 3 "pykickstart cannot be installed:" "$(tail -n 20 "$folder/pip.log")"
    fi
    printf '%s\n' "$wanted" >"$venv/stamp"
  fi
  exec {FORMATS_LOCK}>&-
}
