"""CuPy's and PyTorch's pools by the workload of bench_gpu's `allocations`: peers of `npm run bench:gpu`, where they are installed.

Prints a JSON object a line. Python's own part of an operation is measured by the same loop over a list, and named `python loop`.
"""

import json
import time

MASK = (1 << 64) - 1
MIB = 1 << 20


class Random:
    """SplitMix64, as in bench_gpu."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) * n) >> 64


def random_allocations(allocate, count, most_bytes, synchronize):
    random = Random(0xD1B54A32D192ED03)
    live = []
    allocations = used = operations = 0
    begin = time.perf_counter_ns()
    for _ in range(count * 2):
        size = 1 + random.below(MIB)
        chance = random.below(100)
        if not live or (chance < 73 and allocations < count and used + size < most_bytes):
            live.append((allocate(size), size))
            allocations += 1
            used += size
        elif live:
            index = random.below(len(live))
            live[index], live[-1] = live[-1], live[index]
            block, size = live.pop()
            del block
            used -= size
        operations += 1
    synchronize()
    return (time.perf_counter_ns() - begin) / operations


def measure(peer, allocate, free_bytes, synchronize):
    for count in (1000, 10_000, 100_000):
        for state in ("cold", "warm"):
            ns = random_allocations(allocate, count, free_bytes * 3 // 4, synchronize)
            row = {"bench": "random_allocations", "allocations": count, "max_mib": 1, "peer": peer, "round": state, "ns": round(ns, 1)}
            print(json.dumps(row), flush=True)


def main():
    measure("python loop", lambda size: None, 64 << 30, lambda: None)
    try:
        import cupy

        free, _ = cupy.cuda.runtime.memGetInfo()
        measure(f"CuPy {cupy.__version__} pool", cupy.cuda.MemoryPool().malloc, free, cupy.cuda.runtime.deviceSynchronize)
    except Exception as error:  # not installed, or no GPU
        print(json.dumps({"bench": "none", "peer": "CuPy", "why": str(error)}))
    try:
        import torch

        free, _ = torch.cuda.mem_get_info()
        empty = lambda size: torch.empty(size, dtype=torch.uint8, device="cuda")
        measure(f"PyTorch {torch.__version__} pool", empty, free, torch.cuda.synchronize)
    except Exception as error:
        print(json.dumps({"bench": "none", "peer": "PyTorch", "why": str(error)}))


if __name__ == "__main__":
    main()
