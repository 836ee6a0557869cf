"""Damages HDF5 recordings in many ways and gives each to `fovea data`: it must end with 0 or 1, in time, without a
trace. The damage of file number I under seed S is always the same: --only I makes it again."""
import argparse
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import threading

CONFIG = """experiment: damaged
model: {class: CoreReadout}
data: {path: data, test_names: [test], batch_size: 1, train_chunk_size: 10, clip_length: 20, num_val_clips: 1}
"""
SECONDS = 60  # the reader of HDF5 gives up after ten of computing


def flipped(bytes_, rng):
    for _ in range(rng.choice([1, 1, 2, 4, 16, 64])):
        bytes_[rng.randrange(len(bytes_))] ^= rng.randrange(1, 256)


def truncated(bytes_, rng):
    del bytes_[rng.randrange(len(bytes_)):]


def block(bytes_, rng):
    """Begin and size of a part of the file."""
    size = min(rng.choice([4, 8, 32, 128, 512]), len(bytes_))
    return rng.randrange(len(bytes_) - size + 1), size


def swapped(bytes_, rng):
    first, size = block(bytes_, rng)
    second = rng.randrange(len(bytes_) - size + 1)
    bytes_[first:first + size], bytes_[second:second + size] = bytes_[second:second + size], bytes_[first:first + size]


def filled(bytes_, rng):
    begin, size = block(bytes_, rng)
    bytes_[begin:begin + size] = bytes([rng.choice([0, 0, 255])]) * size


def small_numbers(bytes_, rng):
    """Counts, sizes and versions are small numbers: one of them becomes another."""
    places = [i for i in range(len(bytes_)) if 0 < bytes_[i] < 32]
    if places:
        bytes_[rng.choice(places)] = rng.choice([0, 1, 2, 3, 4, 8, 16, 127, 128, 255])


def damaged(bytes_, rng):
    result = bytearray(bytes_)
    for _ in range(rng.choice([1, 1, 2, 3])):
        if result:
            rng.choice([flipped, flipped, truncated, swapped, filled, small_numbers])(result, rng)
    return bytes(result)


def tree(folder):
    return sorted(os.path.join(place, name) for place, folders, files in os.walk(folder) for name in folders + files)


def problem(program, folder, bases, number, seed):
    """(base, what is wrong with how the program took file `number` or None, its exit status)."""
    rng = random.Random(f"{seed}-{number}")
    base = rng.choice(sorted(bases))
    with open(os.path.join(folder, "data", "s.h5"), "wb") as file:
        file.write(damaged(bases[base], rng))
    before = tree(folder)
    try:
        result = subprocess.run([program, "data", "run.yaml", "--threads", "1"], cwd=folder, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return base, f"it takes more than {SECONDS} seconds", None
    if result.returncode not in (0, 1):
        return base, f"exit status {result.returncode}: {result.stderr.decode(errors='replace')}", result.returncode
    if tree(folder) != before:
        return base, f"it left {set(tree(folder)) - set(before)}", result.returncode
    if result.returncode == 1 and (result.stdout or not re.match(rb"fovea: \[[^\]]+\] .+\n$", result.stderr)):
        return base, f"its message: {result.stderr.decode(errors='replace')}", result.returncode
    return base, None, result.returncode


def prepared(work, bases):
    """A folder for a worker: configuration and stimuli."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(os.path.join(bases, "stimuli"), os.path.join(work, "data", "stimuli"))
    with open(os.path.join(work, "run.yaml"), "w") as file:
        file.write(CONFIG)
    return work


def run(program, bases, work, seed, numbers):
    """Yields (base, problem, exit status, number); two at a time."""
    program, local = os.path.abspath(program), threading.local()
    contents = {name: open(os.path.join(bases, name), "rb").read() for name in os.listdir(bases) if name.endswith(".h5")}

    def one(number):
        if not hasattr(local, "folder"):
            local.folder = prepared(os.path.join(work, str(threading.get_ident())), bases)
        base, wrong, status = problem(program, local.folder, contents, number, seed)
        if wrong:
            shutil.copy(os.path.join(local.folder, "data", "s.h5"), os.path.join(work, f"failed-{seed}-{number}.h5"))
        return base, wrong, status, number

    os.makedirs(work, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield from pool.map(one, numbers, chunksize=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the built fovea")
    parser.add_argument("bases", help="folder that tests/hdf5_bases wrote")
    parser.add_argument("--work", default="build-test/damaged-hdf5")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--only", type=int, help="this file alone; it stays in the work folder")
    words = parser.parse_args()
    numbers = range(words.count) if words.only is None else [words.only]
    failed = 0
    for base, wrong, status, number in run(words.program, words.bases, words.work, words.seed, numbers):
        failed += bool(wrong)
        if wrong or words.only is not None:
            print(f"file {number} of {base}: {wrong or 'exit status ' + str(status)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
