"""Units that are compiled for one instruction set must define no weak symbol: the linker could give such a copy to code that
runs on processors without it.    isa_symbols_test.py ARCHIVE .."""
import subprocess
import sys


def weak_symbols(archive):
    listed = subprocess.run(["nm", "--defined-only", "--demangle", archive], capture_output=True, text=True, check=True).stdout
    symbols = [line.split(maxsplit=2) for line in listed.splitlines() if len(line.split(maxsplit=2)) == 3]
    return len(symbols), [name for _, kind, name in symbols if kind in "WwVvu"]


wrong = 0
for archive in sys.argv[1:]:
    total, weak = weak_symbols(archive)
    print(f"{archive}: {total} symbols, {len(weak)} weak")
    for name in weak:
        print(f"  weak: {name}")
    wrong += len(weak) + (total == 0)
sys.exit(1 if wrong or len(sys.argv) < 2 else 0)
