"""The stripped program is below 25 MB with CUDA and below 6 MB without; exit status 77 where the build says nothing of that."""
import argparse
import os
import subprocess
import sys
import tempfile

WITH_CUDA, WITHOUT = 25_000_000, 6_000_000


def stripped_size(program):
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "stripped")
        subprocess.run(["strip", "-o", copy, program], check=True)
        return os.path.getsize(copy)


def why_not(build):
    if build.build != "release":
        return f"the build type is {build.build}, not release"
    if build.sanitize != "none":
        return f"the build has the sanitizer {build.sanitize}"
    if build.emulator == "true" and build.cuda == "false":
        return "the build has the emulator, which is for tests, and no CUDA; tools/test bare measures one without"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    for name, value in (("--build", "release"), ("--sanitize", "none"), ("--cuda", "false"), ("--emulator", "false")):
        parser.add_argument(name, default=value)
    build = parser.parse_args()
    reason = why_not(build)
    if reason:
        print(f"skipped: {reason}")
        return 77
    size, most = stripped_size(build.program), WITH_CUDA if build.cuda == "true" else WITHOUT
    print(f"{build.program}, stripped: {size} bytes, fewer than {most} are allowed")
    return 0 if size < most else 1


if __name__ == "__main__":
    sys.exit(main())
