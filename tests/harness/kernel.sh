#!/usr/bin/env bash
# What the cargo runners share that run a test program inside a kernel of its own: the end of all that they start, and
# the way of the program's status out of the kernel, which always exits with 0.
#
# To be sourced with the runner's arguments: a test program and its own.
if [ "${IN_KERNEL:-}" != "$$" ]; then
  # Whoever started this may be killed; the kernel must not live on.
  export IN_KERNEL=$$
  exec setpriv --pdeathsig TERM "$0" "$@"
fi

readonly MARK='in-kernel: status'
# What the tests inside are told.
readonly PASSED=(TAZPOD TAZPOD_BACKEND TAZPOD_KILLS TAZPOD_STEPS TAZPOD_PATIENCE RUST_BACKTRACE)

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
mkdir -p "$repository/target/checks"
job=$(mktemp -d "$repository/target/checks/kernel.XXXXXX")
kernel=
# shellcheck disable=SC2317 # called by the trap
clean_up() {
  # The signal comes more than once: from who stops all, and with the end of who started this.
  trap '' INT TERM HUP
  if [ -n "$kernel" ]; then
    kill "$kernel" 2>/dev/null || true
    wait "$kernel" || true
  fi
  rm -rf "$job"
}
trap clean_up EXIT
trap 'exit 143' INT TERM HUP

# Prints a script that runs a program with its arguments, and with what it is told, where tests run.
test_script() {
  local name
  for name in "${PASSED[@]}"; do
    [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
  done
  printf 'cd %q\n' "$repository/tests"
  printf '%q ' "$@"
  echo
}

# Prints the lines by which a kernel's first process runs that script and ends the kernel.
last_lines() {
  # No terminal, or output would come in colours.
  cat <<LINES
bash '$1' </dev/null 2>&1 | cat
printf '\n%s %s\n' '$MARK' "\${PIPESTATUS[0]}"
# Started before: from a disk that is going nothing can be.
sleep 60 &
echo o >/proc/sysrq-trigger
wait
LINES
}

# Hands on what a kernel says on standard input, and ends with the status of its test program.
end_with_status() {
  local line status=
  while IFS= read -r line; do
    line=${line%$'\r'}
    case $line in
      "$MARK "*) status=${line##* } ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
  if [ -z "$status" ]; then
    echo "error: the kernel ended without saying how the tests went (limit: $1 seconds)"
    status=1
  fi
  exit "$status"
}
