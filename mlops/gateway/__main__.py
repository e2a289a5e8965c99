"""`python -m mlops.gateway`: serves until SIGTERM or SIGINT. Its settings come from the environment (MLOPS_…)."""

from __future__ import annotations

import uvloop

from mlops.gateway.server import serve
from mlops.settings import GatewaySettings


def main() -> None:
    """Runs the gateway."""
    uvloop.run(serve(GatewaySettings()))


if __name__ == "__main__":
    main()
