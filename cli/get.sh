#!/bin/sh
# Installs a released tazpod: downloads it, verifies its SHA-256 sum, and puts it in place.
#
#   curl -fsSL URL/get.sh | sh
#   curl -fsSL URL/get.sh | sh -s -- --to FOLDER     instead of ~/.local/bin
#
# The copy in the source tree belongs to no release: cli/dist.sh makes one that knows version, place and sums.
set -eu

version=''
releases=''
sums=''

fail() {
  printf 'error: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

# All of it is one function, called in the last line: of a download that was cut off, nothing runs.
main() {
  folder=${HOME:?}/.local/bin
  while [ $# -gt 0 ]; do
    case $1 in
      --to) [ $# -ge 2 ] || fail '--to needs a folder'; folder=$2; shift ;;
      *) fail "unknown option '$1'" 'the only one is --to FOLDER' ;;
    esac
    shift
  done
  if [ -z "$version" ] || [ -z "$releases" ] || [ -z "$sums" ]; then
    fail 'this copy belongs to no release' 'take the one that lies beside the release, or build: cli/install.sh'
  fi
  [ "$(uname -s)" = Linux ] || fail 'there are releases for Linux only' 'on macOS, tazpod runs in its container'
  pick "$(uname -m)"

  work=$(mktemp -d)
  trap 'rm -rf -- "$work"' EXIT
  name=tazpod-$version-$target
  download "$releases/v$version/$name.tar.gz" "$work/archive"
  found=$(sha256sum "$work/archive" | cut -d' ' -f1)
  [ "$found" = "$sum" ] || fail "the download is not what was released: its sum is $found instead of $sum" \
    'nothing was installed; somebody may have altered it on its way'
  tar -C "$work" -xzf "$work/archive"
  "$work/$name/tazpod" --version >/dev/null || fail 'the program does not run on this machine'

  mkdir -p -- "$folder"
  # Beside and renamed: a tazpod that is running keeps its file.
  install -m 755 -- "$work/$name/tazpod" "$folder/.tazpod.new"
  mv -f -- "$folder/.tazpod.new" "$folder/tazpod"
  case $folder in */bin) extras "${folder%/bin}/share" ;; esac
  echo "installed $folder/tazpod ($("$folder/tazpod" --version))"
  case :$PATH: in
    *:"$folder":*) ;;
    *) echo "hint: $folder is not in your PATH" ;;
  esac
  [ -e /dev/fuse ] || echo 'hint: there is no /dev/fuse; load the module: modprobe fuse'
}

# Finds the release for a machine: a static one runs with whatever C library it was made.
pick() {
  for entry in $sums; do
    case $entry in "$1"-*) target=${entry%%=*} sum=${entry#*=}; return ;; esac
  done
  fail "there is no release for $1" 'cli/install.sh in the source builds one'
}

download() {
  if command -v curl >/dev/null; then
    curl -fsSL -o "$2" -- "$1" || fail "cannot download $1"
  elif command -v wget >/dev/null; then
    wget -q -O "$2" -- "$1" || fail "cannot download $1"
  else
    fail 'neither curl nor wget is installed'
  fi
}

extras() {
  mkdir -p -- "$1/man/man1" "$1/bash-completion/completions" "$1/zsh/site-functions" "$1/fish/vendor_completions.d"
  install -m 644 -- "$work/$name"/man/man1/*.1 "$1/man/man1/"
  install -m 644 -- "$work/$name/completions/tazpod.bash" "$1/bash-completion/completions/tazpod"
  install -m 644 -- "$work/$name/completions/tazpod.zsh" "$1/zsh/site-functions/_tazpod"
  install -m 644 -- "$work/$name/completions/tazpod.fish" "$1/fish/vendor_completions.d/tazpod.fish"
}

main "$@"
