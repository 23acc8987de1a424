# shellcheck shell=bash
# Python programs that tests are held against, each in a virtual environment of its own below target/tmp. Sourced by
# formats.sh and packme.sh, after packages.sh. One that is there and current is left alone.

# ensure_venv REPOSITORY NAME WHAT: target/tmp/NAME/venv with what tests/support/NAME/requirements.txt lists.
ensure_venv() {
  local requirements=$1/tests/support/$2/requirements.txt folder wanted venv lock
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$1/target}/tmp/$2")
  venv=$folder/venv
  mkdir -p "$folder"
  exec {lock}>"$folder/lock"
  flock "$lock"
  wanted=$({ python3 --version && cat "$requirements"; } | sha256sum | cut -d' ' -f1)
  if [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$wanted" ]]; then
    say "installing $3 for the tests"
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --no-deps --requirement "$requirements"; } >"$folder/pip.log" 2>&1; then
      fail 3 "$3 cannot be installed:" "$(tail -n 20 "$folder/pip.log")"
    fi
    printf '%s\n' "$wanted" >"$venv/stamp"
  fi
  exec {lock}>&-
}
