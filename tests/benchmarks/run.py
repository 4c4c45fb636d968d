"""Run every `bench_*.py` here in turn and print its lines: `make bench`, `make bench-full`."""

import argparse
import importlib.util
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="at full size, minutes")
    parser.add_argument("names", nargs="*", help="only these, e.g. decoding rsa")
    options = parser.parse_args()
    start = time.perf_counter()
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if options.names and path.stem.removeprefix("bench_") not in options.names:
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for line in module.main(full=options.full):
            print(line, flush=True)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
