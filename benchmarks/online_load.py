"""The load of the online benchmark: clients that send one row after another, in a process of their own.

    python -m benchmarks.online_load '{"kind": "http", …}'

Prints one line of JSON: each request's seconds, and how long it all took. gRPC goes through grpc.aio, as a client of
ours would; HTTP through bare sockets that are kept open, which is less than any client of theirs would do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio

Ask = Callable[[], Awaitable[None]]
WARM_SECONDS = 0.5


async def grpc_client(plan: dict[str, Any], stack: AsyncExitStack) -> Ask:
    """One connection a client, as in HTTP."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(plan["address"], options=options))
    call = channel.unary_unary(plan["path"], request_serializer=None, response_deserializer=None)
    body = base64.b64decode(plan["body"])
    metadata = tuple(map(tuple, plan["metadata"]))

    async def ask() -> None:
        await call(body, metadata=metadata, timeout=30)

    return ask


async def http_client(plan: dict[str, Any], stack: AsyncExitStack) -> Ask:
    """HTTP/1.1 with keep-alive, and nothing that a benchmark does not need."""
    host, _, port = plan["address"].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    body = base64.b64decode(plan["body"])
    head = (
        f"POST {plan['path']} HTTP/1.1\r\nHost: {plan['address']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body

    async def ask() -> None:
        writer.write(request)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        assert headers.startswith("http/1.1 200"), headers
        if "transfer-encoding: chunked" in headers:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
            return
        await reader.readexactly(int(headers.partition("content-length:")[2].split("\r\n")[0]))

    return ask


async def main(plan: dict[str, Any]) -> None:
    connect = grpc_client if plan["kind"] == "grpc" else http_client
    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        clients = [await connect(plan, stack) for _ in range(plan["clients"])]
        begun = time.perf_counter() + WARM_SECONDS
        end = begun + plan["seconds"]

        async def run(ask: Ask) -> None:
            while (sent := time.perf_counter()) < end:
                await ask()
                if sent >= begun:
                    latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(run(ask) for ask in clients))
        took = time.perf_counter() - begun
    print(json.dumps({"latencies": latencies, "seconds": took}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
