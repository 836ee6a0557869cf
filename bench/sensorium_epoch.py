#!/usr/bin/env python3
"""What reading static images costs an epoch: one session of 4000 images of 36 x 64 and 8372 neurons, as a folder, a
stored and a deflated zip, each read cold by sensorium-epoch.

    bench/sensorium_epoch.py PROGRAM FOLDER [--images N] [--neurons N]

PROGRAM is BUILD/bench/sensorium-epoch; the sessions are made in FOLDER (900 MB) unless they are there. Pages are
dropped before each run where this process may (/proc/sys/vm/drop_caches); it says where it may not."""
import argparse
import array
import os
import random
import struct
import subprocess
import zipfile

NAME = "static21067-10-18-GrayImageNet-94c6ff995dac583098847cfecd43e7b6"


def npy(kind, shape, data):
    """The bytes of a .npy file."""
    header = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }" % (kind, "".join(f"{n}, " for n in shape))
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def floats(kind, values):
    return array.array({"<f4": "f", "<f8": "d", "<i8": "q"}[kind], values).tobytes()


def words(values):
    width = max(map(len, values))
    return f"<U{width}", b"".join(value.ljust(width, "\0").encode("utf-32-le") for value in values)


def members(images, neurons):
    """(name, bytes) of all files of a session: noise that is smooth like pictures, responses of the usual size."""
    chance = random.Random(1)
    trials = images + 400 + 100
    pool = [chance.expovariate(1.0) for _ in range(1 << 16)]
    for i in range(trials):
        row = [chance.randrange(256) for _ in range(64)]
        pixels = bytearray()
        for _ in range(36):
            row = [(7 * value + chance.randrange(256)) // 8 for value in row]
            pixels += bytes(row)
        start = chance.randrange(len(pool) - neurons)
        yield f"data/images/{i}.npy", npy("|u1", (1, 36, 64), bytes(pixels))
        yield f"data/responses/{i}.npy", npy("<f4", (neurons,), floats("<f4", pool[start:start + neurons]))
        yield f"data/pupil_center/{i}.npy", npy("<f8", (2,), floats("<f8", [chance.gauss(0, 1), chance.gauss(0, 1)]))
        yield f"data/behavior/{i}.npy", npy("<f8", (3,), floats("<f8", [chance.gauss(0, 1) for _ in range(3)]))
    tiers = ["train"] * images + ["validation"] * 400 + ["test"] * 100
    kind, text = words(tiers)
    yield "meta/trials/tiers.npy", npy(kind, (trials,), text)
    kind, text = words(["imagenet"] * trials)
    yield "meta/trials/frame_image_class.npy", npy(kind, (trials,), text)
    for field in ("frame_image_id", "trial_idx"):
        yield f"meta/trials/{field}.npy", npy("<i8", (trials,), floats("<i8", range(trials)))
    yield "meta/neurons/unit_ids.npy", npy("<i8", (neurons,), floats("<i8", range(neurons)))
    for field, shape, count in (("images", (), 1), ("responses", (neurons,), neurons), ("pupil_center", (2,), 2), ("behavior", (3,), 3)):
        for what in ("mean", "std", "median", "min", "max"):
            yield f"meta/statistics/{field}/all/{what}.npy", npy("<f8", shape, floats("<f8", [1.0] * count))


def make(folder, images, neurons):
    """The session as a folder and two zips."""
    paths = {kind: os.path.join(folder, kind, NAME + ending) for kind, ending in (("folder", ""), ("stored", ".zip"), ("deflated", ".zip"))}
    if all(os.path.exists(path) for path in paths.values()):
        return paths
    for kind in paths:
        os.makedirs(os.path.join(folder, kind), exist_ok=True)
    with zipfile.ZipFile(paths["stored"], "w", zipfile.ZIP_STORED) as stored, \
            zipfile.ZipFile(paths["deflated"], "w", zipfile.ZIP_DEFLATED) as deflated:
        for name, data in members(images, neurons):
            stored.writestr(name, data)
            deflated.writestr(name, data)
            path = os.path.join(paths["folder"], name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
    return paths


def drop_caches():
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
        return "cold"
    except OSError:
        return "warm (pages cannot be dropped here)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--neurons", type=int, default=8372)
    parser.add_argument("--kind", action="append", choices=("folder", "stored", "deflated"))
    arguments = parser.parse_args()
    paths = make(arguments.folder, arguments.images, arguments.neurons)
    for kind in arguments.kind or paths:
        size = os.path.getsize(paths[kind]) / 1e6 if os.path.isfile(paths[kind]) else 0
        state = drop_caches()
        result = subprocess.run([arguments.program, paths[kind]], capture_output=True, text=True)
        print(f"{kind}{f' ({size:.0f} MB)' if size else ''}, {state}: {result.stdout or result.stderr}", end="", flush=True)


if __name__ == "__main__":
    main()
