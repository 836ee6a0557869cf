"""Puts fovea-bench beside the PyTorch peer bench in one run and prints one table.

    python bench/compare.py --bench build/bench/fovea-bench --peer PEER_BENCH.py [--only W1s] [--threads 2]
                            [--modes eager,compile,channels_last] [--seconds 8] [--entries build/bench/fovea-entry-bench] [--json FILE]

Medians; PyTorch's figure is the best of its modes. Share of the limit (with --entries): the time that this machine's multiply-adds or
its memory need at least, call by call (useful operations, every operand once, both measured in the same run), of fovea's time. Peak MB:
resident memory of a process that trains, fovea's and that of PyTorch's first mode. Needs a Python with torch and openretina for the peer
only. Nothing else should run meanwhile.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

WORKLOADS = ["W1", "W1n", "W1s", "W2", "W2v", "W3", "W3f", "W4", "L1"]


def run_fovea(options, names):
    """{name: {inference|step: milliseconds}} and the context of the run."""
    pattern = "^(" + "|".join(f"(inference|step|frame)/{name}" for name in names) + ")/"
    command = [options.bench, f"--threads={options.threads}", f"--benchmark_filter={pattern}", "--benchmark_format=json",
               "--benchmark_repetitions=5", "--benchmark_report_aggregates_only=true"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    report = json.loads(result.stdout)
    times = {}
    for entry in report["benchmarks"]:
        if entry.get("aggregate_name") == "median":
            kind, name = entry["run_name"].split("/")[:2]
            times.setdefault(name, {})["inference" if kind == "frame" else kind] = entry["real_time"]
    return times, report["context"]


def run_floors(options, name):
    """{inference|step: milliseconds} that the kernel calls of a workload need at least."""
    command = [options.entries, "--device", "cpu", "--workloads", name]
    result = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"floors of the calls: inference ([\d.]+) ms, training step ([\d.]+) ms", result.stdout)
    if result.returncode or not found:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return {"inference": float(found.group(1)), "step": float(found.group(2))}


def run_memory(options, name):
    """Peak megabytes of a process that takes a few training steps."""
    command = [options.bench, "--threads", str(options.threads), "--memory", name]
    result = subprocess.run(command, capture_output=True, text=True)
    found = re.fullmatch(r"peak (\d+) MB\n", result.stdout)
    if result.returncode or not found:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return int(found.group(1))


def run_peer(options, name):
    """{inference|step: (milliseconds, mode)} of PyTorch's best mode, and the full report."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "peer.json")
        command = [sys.executable, options.peer, "--only", name, "--threads", str(options.threads), "--modes", options.modes,
                   "--seconds", str(options.seconds), "--json", path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(path) as file:
            report = json.load(file)
    best = {}
    for key, value in report["cases"].items():
        mode = key.split("/")[1]
        for kind in ("inference", "step"):
            if kind in value and (kind not in best or value[kind]["median_ms"] < best[kind][0]):
                best[kind] = (value[kind]["median_ms"], mode)
    return best, report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--only", help="workloads, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--modes", default="eager,compile,channels_last")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--entries", help="fovea-entry-bench, for the share of the limit (two threads)")
    parser.add_argument("--json")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else WORKLOADS
    ours, context = run_fovea(options, names)
    rows = []
    for name in names:
        peer, report = run_peer(options, name)
        if not peer:
            sys.exit(f"the peer has no figure for {name}: {json.dumps(report['cases'])[:400]}")
        floors = run_floors(options, name) if options.entries and name != "L1" else {}
        # The first mode alone: later ones add to the peak of the process.
        first = report["cases"].get(f"{name}/{options.modes.split(',')[0]}", {})
        memory = (run_memory(options, name), first["peak_rss_mb"] * 1.048576) if name != "L1" and "peak_rss_mb" in first else None
        for kind, (milliseconds, mode) in peer.items():
            mine = ours.get(name, {}).get(kind)
            if mine is None:
                sys.exit(f"fovea-bench has no {kind}/{name}")
            rows.append({"workload": name, "kind": kind, "fovea_ms": mine, "pytorch_ms": milliseconds, "mode": mode,
                         "ratio": milliseconds / mine, "torch": report["torch"],
                         "share": floors[kind] / mine if kind in floors else None,
                         "memory_mb": memory if kind == "step" else None})
    if not rows:
        sys.exit("nothing was compared")
    print(f"threads {context['threads']}, {context['instruction_set']}, peak {float(context['peak_GFLOP/s']):.0f} GFLOP/s, "
          f"copy {float(context['copy_GB/s']):.1f} GB/s, PyTorch {rows[0]['torch']}")
    print(f"{'workload':10}{'':11}{'fovea ms':>10}{'PyTorch ms':>12}  {'mode':15}{'ratio':>7}{'limit':>7}  peak MB")
    for row in rows:
        print(f"{row['workload']:10}{row['kind']:11}{row['fovea_ms']:10.2f}{row['pytorch_ms']:12.2f}  {row['mode']:15}"
              f"{row['ratio']:6.1f}x{'' if row['share'] is None else format(100 * row['share'], '6.0f') + '%'}"
              + ("" if row["memory_mb"] is None else "  {:.0f} / {:.0f} ({:.2f})".format(*row["memory_mb"], row["memory_mb"][0] / row["memory_mb"][1])))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"context": context, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
