#!/bin/sh
# Makes a release: one static binary per target, with man pages and completions, its sum, and the installer that knows both.
#
#   cli/dist.sh                              for this machine, by the C library that is here
#   cli/dist.sh --target T [--target T]...   for these; a release has
#       --target x86_64-unknown-linux-musl --target aarch64-unknown-linux-musl
#     after `rustup target add` of both, and a linker for the second one
#   cli/dist.sh --releases URL               the folder where the installer will look for `vVERSION/FILE`
#   cli/dist.sh --to FOLDER                  where to put everything, target/dist unless said
set -eu

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
targets=''
releases=''
to=$source/target/dist
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64; }
  case $1 in
    --target) targets="$targets $2" ;;
    --releases) releases=$2 ;;
    --to) to=$2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
  shift 2
done
host=$(rustc -vV | sed -n 's/^host: //p')
[ -n "$targets" ] || targets=$host
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$source/Cargo.toml")
[ -n "$version" ] || fail 'the version is not in Cargo.toml'
built=${CARGO_TARGET_DIR:-$source/target}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p -- "$to"

# Where an empty root has no device to read random bytes from, the system call is all there is.
export RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
sums=''
for target in $targets; do
  cargo build --manifest-path "$source/Cargo.toml" --profile dist --locked --package tazpod --target "$target"
  name=tazpod-$version-$target
  mkdir -p -- "$work/$name/man/man1" "$work/$name/completions"
  binary=$built/$target/dist/tazpod
  cp -- "$binary" "$work/$name/tazpod"
  # Pages and completions are the same for all: made by the first binary that runs here.
  [ -n "${runs:-}" ] || ! "$binary" --version >/dev/null 2>&1 || runs=$binary
  [ -n "${runs:-}" ] || fail "name a target that runs here before $target"
  "$runs" -q generate man "$work/$name/man/man1"
  for shell in bash zsh fish; do
    "$runs" generate completions "$shell" >"$work/$name/completions/tazpod.$shell"
  done
  cp -- "$source/LICENSE" "$source/README.md" "$source/CHANGELOG.md" "$work/$name/"
  # The same bytes whoever makes it, and whenever.
  tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -cf - "$name" |
    gzip -n -9 >"$to/$name.tar.gz"
  sum=$(sha256sum "$to/$name.tar.gz" | cut -d' ' -f1)
  printf '%s  %s\n' "$sum" "$name.tar.gz" >"$to/$name.tar.gz.sha256"
  sums="$sums $target=$sum"
done
sed -e "s|^version=.*|version='$version'|" -e "s|^releases=.*|releases='$releases'|" -e "s|^sums=.*|sums='${sums# }'|" \
  "$source/cli/get.sh" >"$to/get.sh"
chmod 755 "$to/get.sh"
ls -l -- "$to"
