"""`python -m neurosearch`: exits with 1 where any job failed."""

import sys

from neurosearch import app, sweep


def main() -> None:
    """The console command."""
    app.main()
    sys.exit(1 if sweep.failed_jobs else 0)


if __name__ == "__main__":
    main()
