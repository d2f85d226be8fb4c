#!/usr/bin/env bash
# Installs what the tests need (only what is missing) and passes all of them.
set -euo pipefail
cd "$(dirname "$0")"

need_debian=()
command -v mold >/dev/null 2>&1 || need_debian+=(mold)
command -v cc >/dev/null 2>&1 || need_debian+=(build-essential)
command -v curl >/dev/null 2>&1 || need_debian+=(curl)
command -v git >/dev/null 2>&1 || need_debian+=(git)
command -v node >/dev/null 2>&1 || need_debian+=(nodejs)
command -v npm >/dev/null 2>&1 || need_debian+=(npm)
# The server and promtool, for the alert rules.
{ command -v prometheus && command -v promtool; } >/dev/null 2>&1 || need_debian+=(prometheus)
if ! command -v initdb >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
  need_debian+=(postgresql)
fi
if [ ${#need_debian[@]} -gt 0 ]; then
  sudo=""; [ "$(id -u)" = 0 ] || sudo="sudo"
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need_debian[@]}"
fi
command -v cargo-nextest >/dev/null 2>&1 || cargo install --locked cargo-nextest
command -v cargo-deny >/dev/null 2>&1 || cargo install --locked cargo-deny
# A real OpenID provider, for the tests of signing in.
oidc="${CARGO_TARGET_DIR:-target}/oidc"
[ -d "$oidc/node_modules/oidc-provider" ] || npm install --silent --no-fund --no-audit --prefix "$oidc" oidc-provider@8

# A fast linker, where there is one.
if command -v mold >/dev/null 2>&1; then
  export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-fuse-ld=mold"
fi

step() { printf '\n== %s\n' "$*"; }
step "formatting";   cargo fmt --all --check
step "layers, generated files"; cargo xtask check
step "licences, bans, sources"; cargo deny --all-features --log-level error check licenses bans sources
step "lints";        cargo clippy --workspace --all-targets --quiet -- -D warnings
step "tests";        cargo nextest run --workspace --no-fail-fast
step "documentation examples"; cargo test --workspace --doc --quiet
