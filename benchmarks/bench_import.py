"""What importing costs, as CPU time of a fresh interpreter net of a bare one, beside ``import reactivex``.

python benchmarks/bench_import.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

_CODE = """
import sys, time
before = time.process_time()
{}
print(time.process_time() - before, sum(name in sys.modules for name in ("openai", "anthropic")))
"""
STATEMENTS = {
    "import reactivex": "import reactivex",
    "import rxstream": "import rxstream",
    "from rxstream import stream": "from rxstream import stream",
    "from rxstream.providers import decoder_for": "from rxstream.providers import decoder_for",
    "import openai": "import openai",
    "import anthropic": "import anthropic",
}


def cost(statement: str) -> tuple[float, int]:
    """Seconds of CPU, and how many of the SDKs were loaded."""
    out = subprocess.run([sys.executable, "-c", _CODE.format(statement)], capture_output=True, text=True, check=True)
    seconds, sdks = out.stdout.split()
    return float(seconds), int(sdks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rounds = 1 if options.smoke else options.rounds
    for statement in STATEMENTS.values():
        cost(statement)  # byte code is compiled, files are in the cache
    figures: dict[str, list[tuple[float, int]]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            figures[name].append(cost(statement))
    base = statistics.median(seconds for seconds, _ in figures["import reactivex"])
    print(f"{'statement':<44} {'ms of CPU':>10} {'÷ reactivex':>12} {'SDKs loaded':>12}")
    for name, values in figures.items():
        seconds = statistics.median(value for value, _ in values)
        print(f"{name:<44} {seconds * 1e3:>10.1f} {seconds / base:>12.2f} {values[0][1]:>12}")


if __name__ == "__main__":
    main()
