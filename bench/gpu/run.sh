#!/usr/bin/env bash
# Runs the bundle on a machine with an NVIDIA GPU, in less than nine minutes: the tests of the CUDA backend (a golden test that
# is skipped is a failure), SAM-mini on a sample, compute-sanitizer over a small part where it is installed, PyTorch where it is
# installed, then the bench. Writes report.md, bench.json, torch.json and logs to the folder given; exit code 1 when something
# failed.
#
# A trial without a GPU: SAMENGINE_CUDA_DRIVER names the emulator, BENCH_ARGUMENTS a tiny shape for the bench.
#
#   run.sh OUT [CHECKOUT]     CHECKOUT has models/sam-mini, samples and tests/fixtures; default: the folder two above this script
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
checkout=$(cd "${2:-$here/../..}" && pwd)
begin=$SECONDS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$work" -xf "$here/bundle.tar.xz" || python3 -m tarfile -e "$here/bundle.tar.xz" "$work" || { echo "can't unpack $here/bundle.tar.xz" >&2; exit 1; }
export BENCH_ARGUMENTS=${BENCH_ARGUMENTS:-}
# The checkout has what is committed for the tests.
export SAM_FIXTURES=$checkout/tests/fixtures
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_gcServer=0
failed=0
left() { echo $((530 - (SECONDS - begin))); }
report() { echo "$*" | tee -a "$out/report.md"; }
# Name, seconds at most, command: its output goes to a log, its outcome into the report.
part() {
  local name=$1 most=$2 log="$out/$1.log"
  shift 2
  [ "$most" -le "$(left)" ] || most=$(left)
  if [ "$most" -lt 5 ]; then
    report "- $name: NOT RUN, no time left"
    failed=1
    return 1
  fi
  local start=$SECONDS
  timeout --kill-after=5 "$most" "$@" >"$log" 2>&1
  local status=$?
  case $status in
    0) report "- $name: passed in $((SECONDS - start)) s" ;;
    124 | 137) report "- $name: FAILED, not done after $most s" ;;
    *) report "- $name: FAILED with status $status; $(tail -n 1 "$log")" ;;
  esac
  [ $status = 0 ] || failed=1
  return $status
}

: >"$out/report.md"
report "# CUDA backend on $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1), $(date -u +%F), commit $(cat "$work/commit")"
report ""
report "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1); command: run.sh"
report ""
cd "$work/bin"
golden="$work/golden"
part doctor 30 ./sam doctor
part tests 200 env SAM_CUDA_TESTS=gpu SAM_GOLDEN="$golden" SAM_GOLDEN_REQUIRED=1 ./SamEngine.Cuda.Tests -noColor -noLogo
grep -E "Total: " "$out/tests.log" | tail -n 1 | sed 's/^ */  - /' | tee -a "$out/report.md"
grep -E "\[FAIL\]" "$out/tests.log" | head -n 40 | sed 's/^ */  - /' | tee -a "$out/report.md"
part describe 60 ./sam describe "$checkout"/samples/cats/*.png --model "$checkout/models/sam-mini" --backend cuda
sed 's/^/  > /' "$out/describe.log" | head -n 4 | tee -a "$out/report.md"
if command -v compute-sanitizer >/dev/null; then
  part sanitizer 60 compute-sanitizer --error-exitcode 99 env SAM_CUDA_TESTS=gpu SAM_GOLDEN="$golden" ./SamEngine.Cuda.Tests \
    -noColor -noLogo -class "*F16ConformanceTests"
else
  report "- sanitizer: not run, compute-sanitizer is not installed"
fi
if python3 -c "import torch, sys; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
  part torch 200 python3 "$work/torch_bench.py" --out "$out/torch.json" --seconds 150
else
  report "- torch: not run, PyTorch with CUDA is not installed"
fi
# Its standard output is the table.
# shellcheck disable=SC2016
part bench 240 bash -c './SamEngine.GpuBench --torch "$1/torch.json" --json "$1/bench.json" $BENCH_ARGUMENTS >"$1/table.md"' bash "$out"
report ""
cat "$out/table.md" >>"$out/report.md" 2>/dev/null
report "$((SECONDS - begin)) s in all; $([ $failed = 0 ] && echo "everything passed" || echo "SOMETHING FAILED, see above")"
exit $failed
