"""tools/kernel-report on recorded output of ptxas: argument 1 is the root of the sources. No CUDA needed."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = sys.argv.pop(1)
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
import ptxas

SPACE = "36_GLOBAL__N__1bb23995_4_s_cu_6cb4ce35"
LIGHT = "_ZN5fovea4cuda5lightINS0_5TwiceEEEvPfT_"
HEAVY = f"_ZN5fovea4cuda{SPACE}5heavyILi96EfEEvPT0_PKS3_"
INDEXED = f"_ZN5fovea4cuda{SPACE}7indexedEPfPKi"


def told(symbol, properties, used, arch=90):
    """What ptxas of CUDA 13.0 says of a kernel."""
    return (f"ptxas info    : Compiling entry function '{symbol}' for 'sm_{arch}'\nptxas info    : Function properties for {symbol}\n"
            f"    {properties}\nptxas info    : Used {used}\nptxas info    : Compile time = 1.252 ms\n")


START = "ptxas info    : 0 bytes gmem\n"
CLEAN = told(LIGHT, "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", "10 registers, used 1 barriers, 132 bytes smem")
CLEAN_75 = told(LIGHT, "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
                "10 registers, used 1 barriers, 132 bytes smem, 361 bytes cmem[0]", 75)
SPILLED = told(HEAVY, "1712 bytes stack frame, 8376 bytes spill stores, 8300 bytes spill loads",
               "64 registers, used 1 barriers, 1712 bytes cumulative stack size")
STACKED = told(INDEXED, "32 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
               "26 registers, used 0 barriers, 32 bytes cumulative stack size")
# A function that is not inlined has properties of its own, which are not the kernel's.
FUNCTION = "ptxas info    : Function properties for _Z4helpf\n    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n"

PTX = {
    LIGHT: f".visible .entry {LIGHT}(\n\t.param .u64 {LIGHT}_param_0,\n"
           f"\t.param .align 1 .b8 {LIGHT}_param_1[1]\n)\n.maxntid 128, 1, 1\n{{\n\tret;\n}}\n",
    HEAVY: f".entry {HEAVY}(\n\t.param .u64 {HEAVY}_param_0\n)\n.maxntid 16, 4, 1\n.minnctapersm 16\n{{\n\tret;\n}}\n",
    INDEXED: f".entry {INDEXED}(\n\t.param .u64 {INDEXED}_param_0\n)\n{{\n\t.local .align 16 .b8 \t__local_depot1[32];\n}}\n",
}


class Parser(unittest.TestCase):
    def test_figures(self):
        light, heavy, indexed = ptxas.parse_ptxas(START + CLEAN + FUNCTION + SPILLED + STACKED)
        self.assertEqual((light.registers, light.shared, light.constant, light.stack, light.spill_stores, light.spill_loads), (10, 132, 0, 0, 0, 0))
        self.assertEqual((heavy.registers, heavy.shared, heavy.stack, heavy.spill_stores, heavy.spill_loads), (64, 0, 1712, 8376, 8300))
        self.assertEqual([one.spills() for one in (light, heavy, indexed)], [False, True, True])
        self.assertEqual(ptxas.parse_ptxas(CLEAN_75)[0].constant, 361)

    def test_cut_output(self):
        with self.assertRaisesRegex(ValueError, "figures of spills and registers: _ZN5fovea4cuda5light.* has spills"):
            ptxas.parse_ptxas(CLEAN.split("ptxas info    : Used")[0])
        with self.assertRaisesRegex(ValueError, "has none"):
            ptxas.parse_ptxas(CLEAN.splitlines()[0])

    def test_blocks(self):
        self.assertEqual(ptxas.parse_blocks("".join(PTX.values())), {LIGHT: 128, HEAVY: 64})

    def test_names(self):
        for demangled, name in (
            ("void fovea::(anonymous namespace)::sum<8, (fovea::Kind)3>(float*, fovea::(anonymous namespace)::Row)",
             "fovea::(anonymous namespace)::sum<8, (fovea::Kind)3>"),
            ("fovea::plain()", "fovea::plain"),
            ("void map<float (*)(float)>(float (*)(float), long)", "map<float (*)(float)>"),
            ("not_mangled", "not_mangled"),
        ):
            self.assertEqual(ptxas.without_parameters(demangled), name)
        self.assertEqual(ptxas.demangle([LIGHT, HEAVY]), ["fovea::cuda::light<fovea::cuda::Twice>",
                                                          "fovea::cuda::(anonymous namespace)::heavy<96, float>"])

    def test_occupancy(self):
        """Values of cuda_occupancy.h."""
        for arch, registers, shared, block, blocks in (
            (90, 32, 0, 256, 8), (90, 33, 0, 256, 6), (90, 255, 0, 256, 1), (90, 255, 0, 288, 0), (90, 106, 0, 512, 1), (90, 20, 0, 32, 32),
            (90, 20, 16384, 128, 13), (80, 20, 49152, 128, 3), (86, 20, 0, 1024, 1), (86, 20, 0, 32, 16), (89, 20, 0, 32, 24), (75, 20, 0, 256, 4),
            (75, 20, 16384, 64, 4), (75, 20, 0, 32, 16), (90, 72, 0, 96, 9), (86, 40, 1000, 160, 9),
        ):
            self.assertEqual(ptxas.resident_blocks(arch, registers, shared, block), blocks, (arch, registers, shared, block))
        kernel = ptxas.Kernel("k", registers=20, shared=1000, block=48)
        self.assertEqual(ptxas.resident_warps(90, kernel), (64, 64))
        kernel.dynamic = 100000
        self.assertEqual(ptxas.resident_warps(90, kernel), (4, 64))
        kernel.block = 0
        self.assertEqual(ptxas.resident_warps(90, kernel), (0, 64))


class Program(unittest.TestCase):
    """The program with a compiler that says what was recorded."""

    def report(self, units, *options):
        """Exit status and output for {file of kernels/cuda: (output of ptxas, symbols in its PTX)}."""
        with tempfile.TemporaryDirectory() as folder:
            compiler, entries = os.path.join(folder, "nvcc"), []
            for name, (output, symbols) in units.items():
                for suffix, text in ((".txt", output), (".ptx", "".join(PTX[symbol] for symbol in symbols))):
                    with open(os.path.join(folder, name + suffix), "w", encoding="utf-8") as file:
                        file.write(text)
                source = os.path.join(ROOT, "kernels", "cuda", name)
                command = ("ccache nvcc --std=c++20 -gencode=arch=compute_90,code=compute_90 -gencode=arch=compute_90,code=sm_90 -t0 "
                           f"-fmad=false -o {name}.o -c {source}")
                entries.append({"directory": folder, "command": command, "file": source})
            with open(os.path.join(folder, "compile_commands.json"), "w", encoding="utf-8") as file:
                json.dump(entries + [{"directory": folder, "command": "c++ -c x.cpp", "file": "x.cpp"}], file)
            with open(compiler, "w", encoding="utf-8") as file:  # the arguments end with --keep-dir DIR -o CUBIN SOURCE
                file.write('#!/bin/sh\ncase "$*" in *--std=c++20*-fmad=false*-arch=sm_90*) ;; *) exit 3 ;; esac\n'
                           'case "$*" in *gencode*|*-t0*|*" -c "*) exit 4 ;; esac\n'
                           f'while [ $# -gt 4 ]; do shift; done\nname="{folder}/$(basename "$4")"\n'
                           'cp "$name.ptx" "$1/kernels.ptx" && cat "$name.txt" >&2\n')
            os.chmod(compiler, 0o755)
            self.json = os.path.join(folder, "report.json")
            result = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "kernel-report"), "--build", folder, "-j", "1",
                                     "--json", self.json, *options], env={**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"]},
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if os.path.exists(self.json):
                with open(self.json, encoding="utf-8") as file:
                    self.json = json.load(file)
            return result.returncode, result.stdout

    def test_clean(self):
        status, output = self.report({"random.cu": (START + CLEAN, [LIGHT])})
        self.assertEqual(status, 0, output)
        self.assertIn("random: light<Twice>", output)
        self.assertIn("64/64 100%", output)
        self.assertIn("not counted", output)
        self.assertEqual(self.json, {"sm_90": {"fovea::cuda::light<fovea::cuda::Twice>": {
            "registers": 10, "shared": 132, "spill_stores": 0, "spill_loads": 0, "stack": 0, "block": 128, "file": "kernels/cuda/random.cu"}}})

    def test_spill_fails(self):
        status, output = self.report({"random.cu": (START + CLEAN + SPILLED, [LIGHT, HEAVY])})
        self.assertEqual(status, 1, output)
        self.assertIn("FAILED sm_90 kernels/cuda/random.cu fovea::cuda::(anonymous namespace)::heavy<96, float>: 8376 bytes of spill stores", output)
        self.assertNotIn("FAILED sm_90 kernels/cuda/random.cu fovea::cuda::light", output)

    def test_stack_fails(self):
        status, output = self.report({"random.cu": (START + STACKED, [INDEXED])})
        self.assertEqual(status, 1, output)
        self.assertIn("indexed: 0 bytes of spill stores, 0 of spill loads, 32 of stack", output)
        self.assertIn("unknown", output)

    def test_one_name_in_two_files(self):
        status, output = self.report({name: (CLEAN, [LIGHT]) for name in ("frames.cu", "random.cu")})
        self.assertEqual(status, 0, output)
        self.assertEqual(sorted(self.json["sm_90"]), [f"fovea::cuda::light<fovea::cuda::Twice> [{name}]" for name in ("frames.cu", "random.cu")])

    def test_dynamic(self):
        status, output = self.report({"random.cu": (CLEAN, [LIGHT])}, "--dynamic", "light<=100000")
        self.assertEqual(status, 0, output)
        self.assertIn(" 8/64  12%", output)
        status, output = self.report({"random.cu": (CLEAN, [LIGHT])}, "--dynamic", "dark=1")
        self.assertEqual(status, 1)
        self.assertIn("[--dynamic]", output)

    def test_refusals(self):
        for output, symbols, why in (("", [LIGHT], "its PTX has 1 kernels, ptxas -v tells of 0"), (CLEAN, [], "its PTX has 0 kernels")):
            status, text = self.report({"random.cu": (output, symbols)})
            self.assertEqual(status, 1)
            self.assertIn(why, text)
        status, text = self.report({"random.cu": (CLEAN, [LIGHT])}, "--arch", "70")
        self.assertEqual(status, 1)
        self.assertIn("[--arch] is one of 75, 80, 86, 89, 90: 70", text)
        self.assertIn("compiles nothing of kernels/cuda", self.report({})[1])


if __name__ == "__main__":
    unittest.main()
