"""Every Triton kernel compiles for a GPU, though none is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton: pip install triton")

# Argument names and types as Triton writes them; the rest are what the kernel is specialised for.
_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from selector import counters, fused

def compile(kernel, types, **constants):
    types = dict(pair.split(":") for pair in types.split()) | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature={name: types[name] for name in kernel.arg_names}, constexprs=constants)
    ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
    # The large Gumbel numbers come from -log(u) near u = 1, which an approximate log may make 0 or less.
    assert "lg2.approx" not in ptx

kinds = [("fp32", 4, kind) for kind in ("uniform", "gumbel", "normal")]
kinds += [("fp64", 2, kind) for kind in ("uniform", "gumbel", "normal")] + [("i64", 2, "integers")]
for dtype, per, kind in kinds:
    types = f"out:*{dtype} keys:*i64 draw:i32 high:i64 first:i32 rows:i32 N:i32 blocks:i32"
    compile(counters._fill, types, KIND=kind, PER=per, BLOCK=counters._BLOCK)
noise = "logits:*fp32 keys:*i64 draw:i32 first:i32 in_stream:i32"
for N in (8, 4096):
    block = fused._block(N)
    M = fused._TILE // block
    compile(fused._argmax, f"out:*i64 rows:i32 {noise}", N=N, M=M, BLOCK=block)
    compile(fused._gradient, f"out:*fp32 grad:*fp32 items:*fp32 S:i32 tau:fp32 {noise}", N=N, D=16, M=4, BLOCK=block)
"""


def test_every_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.cubin"))
