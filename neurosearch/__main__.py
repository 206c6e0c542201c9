"""`python -m neurosearch`: exits with 1 where any job failed."""

import os
import sys
from pathlib import Path

from neurosearch import app, sweep


def main() -> None:
    """The console command."""
    _check_outputs()
    app.main()
    sys.exit(1 if sweep.failed_jobs else 0)


def _check_outputs() -> None:
    """One line where results can't be written; Hydra would give a traceback."""
    told = [word.split("=", 1)[1] for word in sys.argv if word.startswith("paths.outputs=")]
    outputs = Path(told[-1] if told else os.environ.get("NEUROSEARCH_OUTPUTS", "outputs"))
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        writable = os.access(outputs, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        sys.exit(f"error: {outputs} can't be written (NEUROSEARCH_OUTPUTS sets the folder)")


if __name__ == "__main__":
    main()
