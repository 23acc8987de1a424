# shellcheck shell=bash
# Installs playwright-core, by which a test drives Chromium. Sourced by test, after packages.sh.
#
# All is below target/tmp/browser, by the host's npm and its own configuration. What is there and current is left alone.

# ensure_browser REPOSITORY
ensure_browser() {
  local sources=$1/tests/support/browser folder wanted
  # Where cargo tells the tests that they may write.
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$1/target}/tmp/browser")
  mkdir -p "$folder"
  # Two runs install one after the other.
  exec {BROWSER_LOCK}>"$folder/lock"
  flock "$BROWSER_LOCK"
  wanted=$(cat "$sources/package.json" "$sources/package-lock.json" | sha256sum | cut -d' ' -f1)
  if [[ ! -f $folder/stamp || $(<"$folder/stamp") != "$wanted" ]]; then
    say "installing playwright-core for the test of the live page"
    rm -f "$folder/stamp"
    cp "$sources/package.json" "$sources/package-lock.json" "$folder"
    npm --prefix "$folder" ci --no-audit --no-fund --ignore-scripts >"$folder/npm.log" 2>&1 ||
      fail 3 "npm cannot install playwright-core:" "$(tail -n 20 "$folder/npm.log")"
    printf '%s\n' "$wanted" >"$folder/stamp"
  fi
  exec {BROWSER_LOCK}>&-
}
