"""Runs the parts of the test suite; see tools/test. Build folders are build-test/<part>."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

import damaged_hdf5
import fuzzing

FOLDER = "build-test"
THREADED = ["engine", "autograd", "ops_gradcheck", "readout_ops", "random", "cpu_kernels", "cpu_ops", "cpu_readouts", "emulator", "cuda_kernels"]
EMULATED = ["emulator", "cuda_kernels"]
# Ops and golden cases: what must pass on processors that are not here.
PORTABLE = ["activation_ops", "autograd", "check", "core_convolution", "cpu_elementwise", "cpu_kernels", "cpu_ops", "cpu_readouts", "golden_models",
            "losses_gradcheck", "op_fixtures", "ops_gradcheck", "optimizer", "random", "readout_ops", "safetensors"]
QUICK = ["engine", "check", "autograd", "random", "ops_gradcheck", "readout_ops", "losses_gradcheck", "op_fixtures", "safetensors"]


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


TOTALS = Totals()


def say(text):
    print(text, flush=True)


def call(command, **options):
    say("+ " + " ".join(command))
    return subprocess.run(command, **options).returncode == 0


def call_quietly(command, env):
    """Prints the end of the output only when the command fails."""
    say("+ " + " ".join(command))
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        say("\n".join(result.stdout.splitlines()[-60:]))
    return result.returncode == 0


def configure_and_build(part, options, environment=None, targets=()):
    """Whether the build folder of a part is configured and built."""
    folder = os.path.join(FOLDER, part)
    env = {**os.environ, **(environment or {})}
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        if not call_quietly(["meson", "setup", folder, *options], env):
            return False
    return call_quietly(["meson", "compile", "-C", folder, *targets], env)


def count_log(folder):
    """Adds the doctest cases of every test program; a program that says nothing counts as one case."""
    logs = glob.glob(os.path.join(folder, "meson-logs", "testlog*.json"))  # meson names those of a wrapper after it
    with open(max(logs, key=os.path.getmtime)) as file:
        results = [json.loads(line) for line in file]
    for result in results:
        output = result.get("stdout", "") + result.get("stderr", "")
        case = re.search(r"test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed(?: \|\s*(\d+) skipped)?", output)
        good = result["result"] == "OK"
        skips = sum(int(n) for n in re.findall(r"(\d+) skipped:", output)) + (int(case.group(4) or 0) if case else 0)
        if result["result"] == "SKIP":
            TOTALS.add(skipped=1)
        elif case:
            passed, failed = int(case.group(2)), int(case.group(3))
            TOTALS.add(passed, failed if failed or good else 1, skips)
        else:
            TOTALS.add(passed=int(good), failed=int(not good))
        if not good and result["result"] != "SKIP":
            settings = [f"{name}={value}" for name, value in result.get("env", {}).items() if name.startswith("FOVEA_")]
            command = " ".join(settings + result["command"])
            say(f"FAILED {result['name']}: run it again with\n  {command}")
    if not results:
        TOTALS.add(failed=1)


def clang():
    """The environment in which meson takes clang; with ccache as it does by itself for the default compiler."""
    cache = ["ccache"] if shutil.which("ccache") else []
    return {"CC": " ".join([*cache, "clang"]), "CXX": " ".join([*cache, "clang++"])}


def suite(part, options, only=None, environment=None, run_options=(), targets=()):
    """Builds a configuration and runs its tests."""
    started = time.time()
    folder = os.path.join(FOLDER, part)
    if not configure_and_build(part, options, environment, targets):
        say(f"FAILED {part}: the build")
        TOTALS.add(failed=1)
        return
    listed = subprocess.run(["meson", "test", "-C", folder, "--list"], capture_output=True, text=True).stdout
    names = [line.split(" / ")[-1].strip() for line in listed.splitlines() if line.strip()]
    chosen = [name for name in names if only is None or name in only]
    chosen = [name for name in chosen if re.fullmatch(r"[\w-]+", name)]
    built = time.time()
    call(["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *run_options, *chosen])
    count_log(folder)
    say(f"{part}: built in {built - started:.0f} s, ran in {time.time() - built:.0f} s; so far {TOTALS}")


def old_processor():
    """The release build on an x86-64 without AVX and FMA: its kernels are those of the baseline."""
    if call(["tools/packages", "all"]):
        suite("release", RELEASE, PORTABLE, run_options=["--timeout-multiplier=3", "--wrapper=qemu-x86_64 -cpu Nehalem"])
    else:
        TOTALS.add(failed=1)


def aarch64():
    """libfovea for another processor, by Debian's cross compiler and qemu."""
    if not call(["tools/packages", "all"]):
        TOTALS.add(failed=1)
        return
    headers = os.path.abspath(os.path.join(FOLDER, "headers"))  # of libraries that are headers only, without those of this machine
    os.makedirs(headers, exist_ok=True)
    for name in ("nlohmann", "doctest"):
        if not os.path.islink(os.path.join(headers, name)):
            os.symlink(os.path.join("/usr/include", name), os.path.join(headers, name))
    suite("aarch64", ["--cross-file", "tools/aarch64.txt", "--buildtype=release", "-Dtraining=disabled", "-Demulator=disabled",
                      "-Dcuda=disabled", "-Dbench=disabled"], PORTABLE, {"CPATH": headers}, ["--timeout-multiplier=3"])


def tracked(*patterns):
    return subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], capture_output=True,
                          text=True).stdout.split()


def check(name, good):
    TOTALS.add(passed=int(good), failed=int(not good))
    say(f"{name}: {'ok' if good else 'FAILED'}")


def style():
    """clang-format over all sources, raw launches, and clang-tidy on what changed lately."""
    sources = tracked("*.cpp", "*.hpp", "*.cu", "*.cuh", "*.h")
    check("clang-format", call(["clang-format", "--dry-run", "-Werror", *sources]))
    launches = [f for f in tracked("*.cu", "*.cpp") if "<<<" in open(f).read()]
    check("kernel launches only through gpu::launch", not launches)
    long = [f for f in sources if sum(1 for _ in open(f)) > 520]
    check("files of at most about 500 lines" + (": " + ", ".join(long) if long else ""), not long)
    base = os.environ.get("FOVEA_LINT_BASE", "HEAD~3")
    changed = subprocess.run(["git", "diff", "--name-only", "--diff-filter=AM", base], capture_output=True,
                             text=True).stdout.split()
    rooms = ("engine/", "autograd/", "models/", "data/", "training/", "analysis/")
    files = [f for f in changed if f.endswith(".cpp") and f.startswith(rooms) and "emulator" not in f][:12]
    if not files or not os.path.exists(os.path.join(FOLDER, "release", "compile_commands.json")):
        say("clang-tidy: nothing changed or no release build")
        TOTALS.add(skipped=1)
        return
    check("clang-tidy", call(["clang-tidy", "-p", os.path.join(FOLDER, "release"), "--quiet",
                              "--warnings-as-errors=*", "--extra-arg=-Wno-unknown-warning-option", *files],
                             stderr=subprocess.DEVNULL))


def headers():
    """Every public header compiles alone."""
    for header in tracked("include/fovea/*.hpp"):
        check(header, call(["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude",
                            "-include", header, "-x", "c++", "/dev/null"]))


def nvcc_all():
    """The program with its kernels for every architecture; warnings are errors, and so is a kernel that spills."""
    if not shutil.which("nvcc"):
        say("nvcc-all: nvcc is not here")
        TOTALS.add(skipped=1)
        return
    built = configure_and_build("nvcc-all", ["--buildtype=release", "-Dcuda=enabled", "-Demulator=enabled"], targets=["fovea:executable"])
    check("nvcc for every architecture", built)
    if built:
        check("size of the program with CUDA", call(
            ["python3", "tests/program_size_test.py", os.path.join(FOLDER, "nvcc-all", "cli", "fovea"), "--cuda", "true"]))
        check("no kernel spills", call_quietly(["tools/kernel-report", "--build", os.path.join(FOLDER, "nvcc-all")], os.environ))


def bare():
    """The size of the program without CUDA and without what is for tests."""
    built = configure_and_build("bare", ["--buildtype=release", "-Dcuda=disabled", "-Demulator=disabled", "-Dtests=false", "-Dbench=disabled"],
                                targets=["fovea:executable"])
    check("size of the program without CUDA",
          built and call(["python3", "tests/program_size_test.py", os.path.join(FOLDER, "bare", "cli", "fovea")]))


def peers():
    """bench/compare.py beside PyTorch, where torch and openretina are installed (FOVEA_PEER_PYTHON)."""
    python = os.environ.get("FOVEA_PEER_PYTHON", "python3")
    peer = os.environ.get("FOVEA_PEER_BENCH", "")
    if not os.path.exists(peer) or not call([python, "-c", "import torch, openretina"], stderr=subprocess.DEVNULL):
        say("peers: needs FOVEA_PEER_BENCH=peer_bench.py and a FOVEA_PEER_PYTHON with torch and openretina")
        TOTALS.add(skipped=1)
        return
    check("peers", configure_and_build("release", RELEASE, targets=["fovea-bench"]) and
          call([python, "bench/compare.py", "--bench", f"{FOLDER}/release/bench/fovea-bench", "--peer", peer, "--only", "W1s"]))


def scale():
    """Models of the size of the sensorium recordings: a few GB."""
    if not configure_and_build("release", RELEASE, targets=["scale_test"]):
        say("FAILED scale: the build")
        TOTALS.add(failed=1)
        return
    result = subprocess.run([f"{FOLDER}/release/tests/scale_test"], capture_output=True, text=True)
    say(result.stdout)
    cases = re.search(r"test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed", result.stdout)
    TOTALS.add(int(cases.group(2)), int(cases.group(3))) if cases else TOTALS.add(failed=1)


def fuzz(part, options, seconds, seed):
    """Feeds every reader of files with mutations of tests/fuzz/corpus."""
    if not shutil.which("clang++"):
        say("fuzz: needs clang")
        TOTALS.add(skipped=len(fuzzing.TARGETS))
        return
    if not configure_and_build(part, options, clang(), [name + "_fuzz" for name in fuzzing.TARGETS]):
        say(f"FAILED {part}: the build")
        TOTALS.add(failed=len(fuzzing.TARGETS))
        return
    for good, note in fuzzing.run_all(os.path.join(FOLDER, part), seconds, seed):
        say(note)
        TOTALS.add(passed=int(good), failed=int(not good))


def damaged(count=10000, seed=1):
    """Gives the program damaged HDF5 files of several layouts; each layout counts once."""
    bases, work = os.path.join(FOLDER, "hdf5-bases"), os.path.join(FOLDER, "damaged-hdf5")
    program, writer = (os.path.join(FOLDER, "release", name) for name in ("cli/fovea", "tests/hdf5_bases"))
    shutil.rmtree(bases, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    if not configure_and_build("release", RELEASE, targets=["fovea:executable", "hdf5_bases"]) or not call([writer, bases]):
        say("FAILED damaged-hdf5: the build")
        TOTALS.add(failed=1)
        return
    taken = {}  # base: [loaded, refused, failed]
    for base, wrong, status, number in damaged_hdf5.run(program, bases, work, seed, range(count)):
        taken.setdefault(base, [0, 0, 0])[2 if wrong else status] += 1
        if wrong:
            say(f"FAILED file {number} of {base}: {wrong}\n  run it again with python3 tools/damaged_hdf5.py {program} {bases} "
                f"--seed {seed} --only {number}\n  it is {work}/failed-{seed}-{number}.h5")
    for base, (loaded, refused, failed) in sorted(taken.items()):
        check(f"{base}: {loaded} loaded, {refused} refused, {failed} failed", failed == 0 and refused > 0)
    if sum(map(sum, taken.values())) != count:
        check(f"{count} damaged files", False)


RELEASE = ["--buildtype=release", "-Dgpu_archs=80", "-Demulator=enabled"]  # with nvcc where it is there, one arch
# By clang, which takes a third of g++'s time for code with sanitizers. The units of other instruction sets hold the same code as AVX2.
# Lines are all that a report needs; more debug information takes half of the compile time.
LINES = ["--buildtype=debug", "-Ddebug=false", "-Dc_args=-g1", "-Dcpp_args=-g1", "-Doptimization=1"]
SANITIZED = [*LINES, "-Disa=avx2", "-Db_lundef=false", "-Dcuda=disabled", "-Demulator=enabled", "-Dbench=disabled"]
# The targets run on the reference kernels, so that no vector code is compiled.
FUZZED = [*LINES, "-Disa=[]", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dcuda=disabled",
          "-Demulator=disabled", "-Dbench=disabled", "-Dtests=false", "-Dfuzz=enabled"]

PARTS = {
    "release": lambda: suite("release", RELEASE),
    "quick": lambda: suite("release", RELEASE, QUICK),
    "address": lambda: suite("address", [*SANITIZED, "-Db_sanitize=address,undefined"], environment=clang()),
    "thread": lambda: suite("thread", [*SANITIZED, "-Db_sanitize=thread", "-Dtraining=disabled"], THREADED, clang()),
    # g++ checks the alignment of structs that are copied, as CUDA kernels copy vectors; clang does not.
    "undefined": lambda: suite("undefined", [*SANITIZED, "-Db_sanitize=undefined", "-Dtraining=disabled"], EMULATED,
                               targets=[name + "_test" for name in EMULATED]),
    "headers": headers,
    "style": style,
    "nvcc-all": nvcc_all,
    "bare": bare,
    "clang": lambda: suite("clang", [*RELEASE, "-Dcuda=disabled", "-Dbench=disabled"], environment=clang()),
    "old-processor": old_processor,
    "aarch64": aarch64,
    "scale": scale,
    "peers": peers,
    "fuzz": lambda: fuzz("fuzz", FUZZED, 30, seed=1),  # the gate holds what is there; new mutations are for fuzz-long
    "fuzz-long": lambda: fuzz("fuzz-long", [*FUZZED, "-Doptimization=2"], 600, seed=0),
    "damaged-hdf5": damaged,
}
GATE = ["release", "headers", "style", "address", "thread", "fuzz"]
SETS = {"--quick": ["quick"], "--sanitize": ["address", "thread"], "--gate": GATE,
        "--all": [*GATE, "undefined", "nvcc-all", "bare", "clang", "old-processor", "aarch64", "scale", "peers", "damaged-hdf5", "fuzz-long"]}


def main():
    words = sys.argv[1:] or ["release"]
    if words == ["--list"]:
        say("\n".join(PARTS))
        return
    parts = [part for word in words for part in SETS.get(word, [word])]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        sys.exit(f"tools/test: unknown part {unknown[0]}; parts: {', '.join(PARTS)}; sets: {', '.join(SETS)}")
    for part in parts:
        say(f"== {part}")
        PARTS[part]()
    if TOTALS.passed == 0:
        TOTALS.add(failed=1)
    say(str(TOTALS))
    sys.exit(1 if TOTALS.failed else 0)


if __name__ == "__main__":
    main()
