#!/usr/bin/env bash
# Builds everything and runs every test. However it ends, its last line is "N passed, N failed, N skipped". Needs the .NET
# SDK, cmake and g++; clang++ 18 or later, where it is there, compiles the CUDA kernels too. Golden folders in
# ../shared/golden and SAM_GOLDEN are used where they are there (README).
set -uo pipefail
passed=0 failed=0 skipped=0 complete=
temp=
finish() {
  rm -rf "$temp"
  # Ended before the last test: whatever was the reason, that is a failure.
  if [ -z "$complete" ]; then failed=$((failed + 1)); fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ] || exit 1
}
trap finish EXIT
trap 'echo "stopped by a signal"; exit 1' HUP INT TERM

cd "$(dirname "$0")" || exit 1
# Of its own: what a test that is ended leaves there goes too.
temp=$(mktemp -d) || exit 1
configuration=${CONFIGURATION:-Release}
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
dotnet build SamEngine.sln -c "$configuration" -v quiet || { echo "build failed"; exit 1; }

shopt -s nullglob
projects=(tests/*.Tests)
[ ${#projects[@]} -gt 0 ] || { echo "there are no tests"; exit 1; }
for project in "${projects[@]}"; do
  name=$(basename "$project")
  log=$temp/$name.log
  echo "== $name"
  # A test that hangs must not take the last line with it.
  TMPDIR=$temp timeout --foreground --kill-after=10 "${TEST_TIMEOUT:-1200}" \
    "$project/bin/$configuration/net10.0/$name" -noColor -noLogo -noAutoReporters 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  # "   SamEngine.Tests  Total: 5, Errors: 0, Failed: 1, Skipped: 2, Not Run: 0, Time: 0.1s"; a crash leaves none.
  summary=$(grep -E "^ +$name +Total: " "$log" | tail -n 1)
  count() { echo "$summary" | sed -nE "s/.*$1: ([0-9]+).*/\1/p" | grep . || echo 0; }
  f=$(($(count Failed) + $(count Errors)))
  s=$(($(count Skipped) + $(count "Not Run")))
  p=$(($(count Total) - $(count Failed) - s))
  if [ "$p" = 0 ] && [ "$f" = 0 ]; then
    echo "$name passed no test (exit status $status)"
    f=1
  elif [ "$status" != 0 ] && [ "$f" = 0 ]; then
    echo "$name ended with exit status $status"
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
complete=1
