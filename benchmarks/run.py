"""``make bench``: measures what the gateway adds, and writes the figures to ``benchmarks/results/``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Started as a file, Python looks for modules beside it and not in the folder above.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.measure import main

    main(sys.argv[1:])
