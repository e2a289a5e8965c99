"""`python -m mlops.gateway`: serves until SIGTERM or SIGINT. Its settings come from the environment (MLOPS_…)."""

from __future__ import annotations

import asyncio

from mlops.gateway.server import serve
from mlops.settings import GatewaySettings


def main() -> None:
    """Runs the gateway."""
    asyncio.run(serve(GatewaySettings()))


if __name__ == "__main__":
    main()
