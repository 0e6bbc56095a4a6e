#!/usr/bin/env bash
# Builds everything and runs every test; ends with one line "N passed, N failed, N skipped". Needs the .NET SDK, cmake and
# g++. Golden folders in ../shared/golden and SAM_GOLDEN are used where they are there (README, "Tests").
set -uo pipefail
cd "$(dirname "$0")"
configuration=${CONFIGURATION:-Release}
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
dotnet build SamEngine.sln -c "$configuration" -v quiet || { echo "build failed"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

passed=0 failed=0 skipped=0
for project in tests/*.Tests; do
  name=$(basename "$project")
  log=$(mktemp)
  echo "== $name"
  "$project/bin/$configuration/net10.0/$name" -noColor -noLogo 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  # "   SamEngine.Tests  Total: 5, Errors: 0, Failed: 1, Skipped: 2, Not Run: 0, Time: 0.1s"
  summary=$(grep -E "^ +$name +Total: " "$log" | tail -n 1)
  count() { echo "$summary" | sed -nE "s/.*$1: ([0-9]+).*/\1/p"; }
  t=$(count Total) e=$(count Errors) f=$(count Failed) s=$(count Skipped)
  f=$((${f:-0} + ${e:-0}))
  p=$((${t:-0} - f - ${s:-0}))
  if [ "$p" = 0 ]; then
    echo "$name passed no test (exit status $status)"
    f=$((f + 1))
  elif [ "$status" != 0 ] && [ "$f" = 0 ]; then
    echo "$name ended with exit status $status"
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
  rm -f "$log"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
