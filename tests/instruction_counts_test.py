"""Instructions of a training step against stored counts: what times on a busy machine cannot show.

    instruction_counts_test.py PROGRAM COUNTS.txt [--write]

PROGRAM is bench/instructions. Runs it under valgrind --tool=callgrind on one thread with the AVX2 kernels; a count that is 3 % above
or below the stored one fails, so that a gain is written down as well (--write). Exits with 77 where it cannot compare."""
import os
import re
import subprocess
import sys
import tempfile

SLACK = 0.03


def instructions(program, workload):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=counted_step", f"--callgrind-out-file={out}", program, workload]
        result = subprocess.run(command, env={**os.environ, "FOVEA_ISA": "avx2"}, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
        with open(out) as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M).group(1))


def main():
    program, stored = sys.argv[1:3]
    has_avx2 = " avx2 " in open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else False
    if not has_avx2 or subprocess.run(["sh", "-c", "command -v valgrind"], capture_output=True).returncode:
        print("1 skipped: needs valgrind and a processor with AVX2")
        sys.exit(77)
    lines = [line.split() for line in open(stored) if line.strip() and not line.startswith("#")]
    failed, written = 0, []
    for workload, expected in lines:
        counted, expected = instructions(program, workload), int(expected)
        written.append(f"{workload} {counted}")
        change = counted / expected - 1 if expected else float("inf")
        good = abs(change) <= SLACK
        failed += not good
        print(f"{workload}: {counted} instructions, stored {expected}, {100 * change:+.1f} %{'' if good else ': FAILED'}", flush=True)
    if "--write" in sys.argv:
        comments = [line for line in open(stored) if line.startswith("#")]
        open(stored, "w").write("".join(comments) + "\n".join(written) + "\n")
        return
    if not lines:
        sys.exit("no stored counts")
    sys.exit(1 if failed else 0)


main()
