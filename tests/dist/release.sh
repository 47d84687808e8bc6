#!/usr/bin/env bash
# Makes a release as cli/dist.sh does, runs its binary where there is nothing else, and installs it from a server.
# Needs root, for the chroot.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
server=''
clean() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf -- "$work"
}
trap clean EXIT

fail() {
  echo "error: $1" >&2
  exit 1
}

# A folder of releases, and a server that tells its port.
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
mkdir -p "$work/www/v$version"
python3 -u -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()
' "$work/www" >"$work/port" 2>"$work/server.log" &
server=$!
for _ in $(seq 600); do [ ! -s "$work/port" ] || break; sleep 0.1; done
[ -s "$work/port" ] || fail 'the server does not start'
url=http://127.0.0.1:$(cat "$work/port")

# The profile of a release, but for what only makes it slow to build.
export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16
cli/dist.sh --releases "$url" --to "$work/www/v$version"
binary=$(echo target/*/dist/tazpod)

echo '--- static'
{ ldd "$binary" 2>&1 || true; } | grep -E 'statically linked|not a dynamic executable' || fail 'the binary needs libraries'

echo '--- an empty root'
mkdir "$work/root"
cp "$binary" "$work/root/tazpod"
printf 'passphrase\n' >"$work/root/p"
chmod 600 "$work/root/p"
chroot=$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)
inside() { env -i HOME=/ "$chroot" "$work/root" /tazpod "$@"; }
inside --version
inside vault create --image /v --passphrase-file /p --kdf-memory 64M --kdf-time 1
inside vault check --image /v --passphrase-file /p
inside vault export --image /v --passphrase-file /p - >"$work/out.tar"
tar -tf "$work/out.tar" | grep -x ./

echo '--- installed'
curl -fsSL "$url/v$version/get.sh" | env HOME="$work/home" sh
"$work/home/.local/bin/tazpod" --version
[ -s "$work/home/.local/share/man/man1/tazpod-vault-export.1" ] || fail 'no man page was installed'
bash -c 'source "$1"; complete -p tazpod' - "$work/home/.local/share/bash-completion/completions/tazpod"

echo '--- altered on its way'
archive=$(echo "$work/www/v$version"/*.tar.gz)
printf x >>"$archive"
if curl -fsSL "$url/v$version/get.sh" | env HOME="$work/victim" sh 2>"$work/refused"; then
  fail 'an altered release was installed'
fi
grep 'not what was released' "$work/refused"
[ ! -e "$work/victim/.local/bin/tazpod" ] || fail 'an altered release was installed'

echo '--- cut off'
head -c 2500 "$work/www/v$version/get.sh" >"$work/www/cut.sh"
curl -fsSL "$url/cut.sh" | env HOME="$work/cut" sh && fail 'half a script ended well'
[ ! -e "$work/cut" ] || fail 'half a script did something'

echo '--- the copy of the source tree'
if env HOME="$work/none" sh cli/get.sh 2>"$work/refused"; then fail 'a copy without a release installed something'; fi
grep 'belongs to no release' "$work/refused"
