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
    said = [word.split("=", 1)[1] for word in sys.argv if word.startswith("paths.outputs=")]
    outputs = Path(said[-1] if said else os.environ.get("NEUROSEARCH_OUTPUTS", "outputs"))
    told = "can't be written (NEUROSEARCH_OUTPUTS sets the folder)"
    try:
        outputs.mkdir(parents=True, exist_ok=True)
    except OSError:
        sys.exit(f"error: {outputs} {told}")
    for place in (outputs, outputs / "jobs", outputs / "artifacts"):
        if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
            sys.exit(f"error: {place} {told}")


if __name__ == "__main__":
    main()
