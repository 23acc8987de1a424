# shellcheck shell=bash
# Installs Keystone and Glance, with which the tests of uploading talk, and prepares the databases that each test
# copies. Sourced by test, after packages.sh.
#
# All is below target/tmp/openstack: `venv`, a virtual environment by the host's Python and pip's own configuration,
# and `state-HASH`, where HASH says of which sources it was made. What is there and current is left alone.

# tests/support/openstack/services.rs works out the same hash.
openstack_state_sources() {
  local folder=$1
  printf '%s\n' "$folder"/{requirements.txt,constraints.txt,prepare_state.py} \
    "$folder"/services/{glance-api.conf,gunicorn.conf.py,keystone.conf}
}

# make_openstack_venv FOLDER REQUIREMENTS CONSTRAINTS: a new virtual environment beside the old one, then in its place.
make_openstack_venv() {
  local folder=$1 new=$1/venv.new log=$1/pip.log
  say "installing Keystone and Glance for the tests; this takes a minute"
  rm -rf "$new"
  python3 -m venv --prompt openstack "$new" >"$log" 2>&1 || fail 3 "python3 cannot make a virtual environment:" "$(tail -n 20 "$log")"
  "$new/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2" --constraint "$3" \
    >"$log" 2>&1 || fail 3 "pip cannot install Keystone and Glance:" "$(tail -n 20 "$log")"
  # The first lines of its programs, and what is activated, name the folder where they were made.
  grep -rlIZ --exclude-dir=__pycache__ -F "$new" "$new/bin" "$new/pyvenv.cfg" |
    xargs -0r sed -i "s|$new|$folder/venv|g"
  rm -rf "$folder/venv"
  mv "$new" "$folder/venv"
}

# ensure_openstack REPOSITORY
ensure_openstack() {
  local sources=$1/tests/support/openstack folder wanted state files log
  local requirements=$sources/requirements.txt constraints=$sources/constraints.txt
  # Where cargo tells the tests that they may write.
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$1/target}/tmp/openstack")
  mkdir -p "$folder"
  # Two runs install one after the other.
  exec {OPENSTACK_LOCK}>"$folder/lock"
  flock "$OPENSTACK_LOCK"
  wanted=$({ python3 --version && cat "$requirements" "$constraints"; } | sha256sum | cut -d' ' -f1)
  if [[ ! -f $folder/venv/stamp || $(<"$folder/venv/stamp") != "$wanted" ]]; then
    make_openstack_venv "$folder" "$requirements" "$constraints"
    printf '%s\n' "$wanted" >"$folder/venv/stamp"
  fi
  mapfile -t files < <(openstack_state_sources "$sources")
  state=$folder/state-$(cat "${files[@]}" | sha256sum | cut -c1-16)
  if [[ ! -d $state ]]; then
    say "preparing the databases of Keystone and Glance"
    log=$folder/state.log
    rm -rf "$folder"/state-* "$folder/state.new"
    "$folder/venv/bin/python" "$sources/prepare_state.py" "$folder/state.new" >"$log" 2>&1 ||
      fail 3 "the databases of Keystone and Glance cannot be prepared:" "$(tail -n 20 "$log")"
    mv "$folder/state.new" "$state"
  fi
  exec {OPENSTACK_LOCK}>&-
}
