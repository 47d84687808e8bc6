#!/bin/sh
# Builds tazpod from this source and installs the one binary.
#
#   cli/install.sh                 to ~/.local/bin, for yourself
#   cli/install.sh --system        to /usr/local/bin, for everyone on this machine (asks sudo)
#   cli/install.sh --to FOLDER     to another folder
#   cli/install.sh --uninstall     removes what the same call without it has installed
set -eu

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0"
}

fail() {
  printf 'error: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

folder=$HOME/.local/bin
system=no
uninstall=no
while [ $# -gt 0 ]; do
  case $1 in
    --system) folder=/usr/local/bin system=yes ;;
    --to)
      [ $# -ge 2 ] || fail '--to needs a folder'
      folder=$2
      shift
      ;;
    --uninstall) uninstall=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done

# Root's own hands are needed only where the folder is not the caller's.
as_owner() {
  if [ "$system" = yes ] && [ "$(id -u)" -ne 0 ]; then
    echo "sudo: $folder belongs to root"
    sudo "$@"
  else
    "$@"
  fi
}

# Where shells and man look, if the binary goes to a folder `bin`: beside it. FILE is below that.
case $folder in
  */bin) share=${folder%/bin}/share ;;
  *) share= ;;
esac
completions='bash:bash-completion/completions/tazpod zsh:zsh/site-functions/_tazpod fish:fish/vendor_completions.d/tazpod.fish'

if [ "$uninstall" = yes ]; then
  [ -e "$folder/tazpod" ] || fail "there is no $folder/tazpod"
  as_owner rm -- "$folder/tazpod"
  if [ -n "$share" ]; then
    for entry in $completions; do as_owner rm -f -- "$share/${entry#*:}"; done
    as_owner rm -f -- "$share"/man/man1/tazpod.1 "$share"/man/man1/tazpod-*.1
  fi
  echo "removed $folder/tazpod; vaults and projects are where they were"
  exit 0
fi

command -v cargo >/dev/null || fail 'cargo is not installed' 'see https://rustup.rs, or your distribution'
command -v cc >/dev/null || fail 'a C compiler is needed to link' 'on Debian: apt-get install gcc libc6-dev'

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cargo build --manifest-path "$source/Cargo.toml" --release --locked --package tazpod
built=${CARGO_TARGET_DIR:-$source/target}/release/tazpod
[ -x "$built" ] || fail "the build left no $built"

as_owner mkdir -p -- "$folder"
# Beside and renamed: a tazpod that is running keeps its file.
as_owner install -m 755 -- "$built" "$folder/.tazpod.new"
as_owner mv -f -- "$folder/.tazpod.new" "$folder/tazpod"
if [ -n "$share" ]; then
  made=$(mktemp -d)
  trap 'rm -rf -- "$made"' EXIT
  "$folder/tazpod" -q generate man "$made/man"
  as_owner mkdir -p -- "$share/man/man1"
  as_owner install -m 644 -- "$made"/man/*.1 "$share/man/man1/"
  for entry in $completions; do
    "$folder/tazpod" generate completions "${entry%%:*}" >"$made/completions"
    as_owner mkdir -p -- "$share/$(dirname -- "${entry#*:}")"
    as_owner install -m 644 -- "$made/completions" "$share/${entry#*:}"
  done
fi
echo "installed $folder/tazpod ($("$folder/tazpod" --version))"

case :$PATH: in
  *:"$folder":*) ;;
  *) echo "hint: $folder is not in your PATH" ;;
esac
[ -e /dev/fuse ] || echo 'hint: there is no /dev/fuse; load the module: modprobe fuse'
if [ "$system" = yes ]; then
  cat <<EOF
To let a user make ghosts without typing a sudo password, add this rule with visudo. It allows
this one helper and nothing else:
  NAME ALL=(root) NOPASSWD: $folder/tazpod internal-ghost
EOF
fi
