#!/bin/sh
# Keeps a private Docker engine for as long as standard input stays open, and takes away all of it then.
#
#   engine.sh RUN DATA GROUP [SIZE]    folders for its sockets and its data, the name of its control group, and how much room the
#                                      data may take; without it as much as the folder's disk has
#
# Whoever started this holds the other end: when that process ends, in whatever way, the engine ends too. Engine and
# containers live in a PID and a mount namespace of their own, so that one signal ends them and no mount is left.
set -u
run=$1 data=$2 group=$3 size=${4-}

# shellcheck disable=SC2016 # expanded by the inner shell, which reaps what the engine leaves behind
unshare --mount --propagation slave --pid --fork --kill-child=KILL --mount-proc sh -c '
  [ -z "$4" ] || mount -t tmpfs -o "size=$4" none "$2" || exit
  dockerd --host "unix://$1/socket" --data-root "$2" --exec-root "$1/exec" --pidfile "$1/pid" \
    --cgroup-parent "/$3" --bridge=none --iptables=false --ip6tables=false >"$1/log" 2>&1 &
  wait $!
' engine "$run" "$data" "$group" "$size" </dev/null &
engine=$!

cat >/dev/null

kill -KILL "$engine"
wait "$engine"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$run" "$data" 2>/dev/null && break
  sleep 1
done
find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
exit 0
