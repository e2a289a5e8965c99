"""`python -m mlops.workers.serving`: serves until SIGTERM or SIGINT. Its settings come from the environment (MLOPS_…)."""

from __future__ import annotations

import uvloop

from mlops.settings import ServingSettings
from mlops.workers.serving.server import run


def main() -> None:
    """Runs the serving host."""
    uvloop.run(run(ServingSettings()))


if __name__ == "__main__":
    main()
