"""Runs the libFuzzer targets of tests/fuzz; see tools/test."""
import concurrent.futures
import os
import re
import subprocess

TARGETS = ["safetensors", "npy", "config", "hdf5"]
LEAST_RUNS = 1000  # a target that does less tests nothing


def run_target(folder, name, seconds, seed):
    """Whether the target ran to its end without a finding, and what to say about it. Seed 0: another one every time."""
    program = os.path.join(folder, "tests", "fuzz", name + "_fuzz")
    corpus = os.path.join(folder, "corpus", name)
    crashes = os.path.join(folder, "crashes")
    for place in (corpus, crashes):
        os.makedirs(place, exist_ok=True)
    command = [program, corpus, f"tests/fuzz/corpus/{name}", f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               f"-seed={seed}", "-print_final_stats=1", f"-artifact_prefix={crashes}/{name}-"]
    dictionary = f"tests/fuzz/{name}.dict"
    if os.path.exists(dictionary):
        command.append(f"-dict={dictionary}")
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 300)
    except subprocess.TimeoutExpired:
        return False, f"{name}: does not end"
    runs = re.search(r"number_of_executed_units:\s*(\d+)", result.stderr)
    count = int(runs.group(1)) if runs else 0
    if result.returncode == 0 and count >= LEAST_RUNS:
        coverage = re.findall(r"cov: (\d+)", result.stderr)
        return True, f"{name}: {count} inputs in {seconds} s, coverage {coverage[-1] if coverage else '?'}"
    lines = [f"{name}: exit status {result.returncode} after {count} inputs", *result.stderr.splitlines()[-60:]]
    saved = re.search(r"Test unit written to (\S+)", result.stderr)
    if saved:
        lines.append(f"run it again with\n  {program} {saved.group(1)}")
    return False, "\n".join(lines)


def run_all(folder, seconds, seed):
    """Yields the result of every target; two run at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run_target, folder, name, seconds, seed) for name in TARGETS]:
            yield future.result()
