"""What should be cheap, in processor seconds: `python tests/benchmarks/budgets.py [--quick]`.

Prints each figure with its limit; the exit status is 1 where one is over. These are no tests,
because they depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

LIMITS = {"import ftkit": 0.3, "encode 4,000 records": 1.5, "read and check 10,000 records": 3.0,
          "the longest proof": 20.0, "all proofs": 600.0}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--quick", action="store_true", help="without the proofs")
    quick = asked.parse_args().quick
    with tempfile.TemporaryDirectory() as home:
        os.environ["FTKIT_HOME"] = home
        spent = {"import ftkit": child("import ftkit"), **data()}
        if not quick:
            proofs = proof_seconds()
            spent |= {"the longest proof": max(proofs.values()), "all proofs": sum(proofs.values())}
            slowest = sorted(proofs, key=proofs.get, reverse=True)[:10]
            print("slowest proofs: " + ", ".join(f"{n} {proofs[n]:.1f} s" for n in slowest))
    for name, seconds in spent.items():
        over = "  over" if seconds > LIMITS[name] else ""
        print(f"{name:<30} {seconds:8.2f} s   limit {LIMITS[name]:g} s{over}")
    return int(any(seconds > LIMITS[name] for name, seconds in spent.items()))


def child(code: str) -> float:
    """Processor seconds of a Python process, less those of an empty one."""
    def spend(code):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([sys.executable, "-c", code], check=True)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    spend(code)  # so that it is compiled
    return spend(code) - spend("")


def data() -> dict[str, float]:
    import ftkit as ft
    from ftkit.data import encoding, schema

    rows = [{"instruction": f"Translate line {i}.", "input": f"the cat saw {i} dogs",
             "output": f"le chat {i}"} for i in range(10_000)]
    _, tokenizer = ft.load("tiny")
    records = schema.Records(rows[:4000])
    encoding.encode_all(records[:10], tokenizer)
    began = time.process_time()
    encoding.encode_all(records, tokenizer)
    encoded = time.process_time() - began
    began = time.process_time()
    ft.records(rows)
    return {"encode 4,000 records": encoded,
            "read and check 10,000 records": time.process_time() - began}


def proof_seconds() -> dict[str, float]:
    from ftkit.interview import bank
    from ftkit.interview.proofs import core

    spent = {}
    for stated in (stated for question in bank.everything() for stated in question.proofs):
        if stated["proof"] not in spent:
            began = time.process_time()
            core.prove(stated)
            spent[stated["proof"]] = time.process_time() - began
    return spent


if __name__ == "__main__":
    sys.exit(main())
