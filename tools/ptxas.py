"""What ptxas -v says of kernels, and how many warps of them a multiprocessor holds."""
import re
import subprocess
from dataclasses import dataclass


@dataclass
class Kernel:
    """One kernel compiled for one architecture; sizes in bytes."""

    symbol: str
    registers: int = 0  # of a thread
    shared: int = 0  # static
    constant: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    block: int = 0  # most threads of a block, 0 where the source has no __launch_bounds__
    dynamic: int = 0  # shared memory that a launch adds
    name: str = ""
    file: str = ""

    def spills(self):
        return bool(self.spill_stores or self.spill_loads or self.stack)


def parse_ptxas(text):
    """The kernels of the output of ptxas -v. Raises ValueError where a kernel's figures are not all there."""
    kernels = {}
    current = None  # the function that the lines are about, which may be no kernel
    figures = {}
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)' for", line):
            kernels[found[1]] = Kernel(found[1])
            figures[found[1]] = set()
            current = found[1]
        elif found := re.search(r"Function properties for (\S+)", line):
            current = found[1]
        elif current not in kernels:
            continue
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernel = kernels[current]
            kernel.stack, kernel.spill_stores, kernel.spill_loads = (int(n) for n in found.groups())
            figures[current].add("spills")
        elif found := re.search(r"Used (\d+) registers", line):
            kernel = kernels[current]
            kernel.registers = int(found[1])
            kernel.shared = sum(int(n) for n in re.findall(r"(\d+) bytes smem", line))
            kernel.constant = sum(int(n) for n in re.findall(r"(\d+) bytes cmem", line))
            figures[current].add("registers")
    for symbol, seen in figures.items():
        if seen != {"spills", "registers"}:
            raise ValueError(f"[ptxas] every kernel has figures of spills and registers: {symbol} has {', '.join(sorted(seen)) or 'none'}")
    return list(kernels.values())


def parse_blocks(ptx):
    """symbol: threads of its largest block, from the .maxntid that __launch_bounds__ leaves in PTX."""
    blocks = {}
    for symbol, directives in re.findall(r"\.entry (\w+)\([^)]*\)([^{]*)\{", ptx):
        if size := re.search(r"\.maxntid (\d+)(?:, *(\d+))?(?:, *(\d+))?", directives):
            blocks[symbol] = int(size[1]) * int(size[2] or 1) * int(size[3] or 1)
    return blocks


def without_parameters(demangled):
    """fovea::sum<8, float> of `void fovea::sum<8, float>(float*, long)`."""
    if not demangled.endswith(")"):
        return demangled
    depth = 0
    for end in range(len(demangled) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(demangled[end], 0)
        if depth == 0:
            break
    return demangled[:end].removeprefix("void ")


def demangle(symbols):
    """The names of kernels with their template arguments, without their parameters."""
    lines = subprocess.run(["c++filt"], input="\n".join(symbols), stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return [without_parameters(line) for line in lines]


# What a multiprocessor has: warps, blocks, bytes of shared memory, bytes of it that each block loses, unit of its allocation.
# All have 64 Ki registers in four partitions, allocated to a warp by 256. (CUDA C++ Programming Guide, compute capabilities;
# the arithmetic is that of cuda_occupancy.h.)
LIMITS = {
    75: (32, 16, 64 << 10, 0, 256),
    80: (64, 32, 164 << 10, 1024, 128),
    86: (48, 16, 100 << 10, 1024, 128),
    89: (48, 24, 100 << 10, 1024, 128),
    90: (64, 32, 228 << 10, 1024, 128),
}
PARTITIONS, PARTITION_REGISTERS, REGISTER_UNIT = 4, 16384, 256


def round_up(value, unit):
    return -(-value // unit) * unit


def resident_blocks(arch, registers, shared, block):
    """How many blocks of `block` threads a multiprocessor holds at once; 0 where not even one fits."""
    most_warps, most_blocks, shared_memory, reserved, shared_unit = LIMITS[arch]
    warps = round_up(block, 32) // 32
    of_warp = round_up(32 * max(registers, 1), REGISTER_UNIT)
    if of_warp * round_up(warps, PARTITIONS) > PARTITIONS * PARTITION_REGISTERS:
        return 0
    by_registers = PARTITION_REGISTERS // of_warp * PARTITIONS // warps
    of_block = round_up(shared + reserved, shared_unit)
    by_shared = shared_memory // of_block if of_block else most_blocks
    return min(most_warps // warps, most_blocks, by_registers, by_shared)


def resident_warps(arch, kernel):
    """(warps that a multiprocessor holds, warps that it could), (0, ..) where the size of a block is unknown."""
    most = LIMITS[arch][0]
    if not kernel.block:
        return 0, most
    blocks = resident_blocks(arch, kernel.registers, kernel.shared + kernel.dynamic, kernel.block)
    return blocks * round_up(kernel.block, 32) // 32, most
