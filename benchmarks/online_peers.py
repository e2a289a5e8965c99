"""The peers of the online benchmark, each in an environment of its own where mlops does not bring it along.

Each serves the same fitted scikit-learn pipeline over HTTP, with a worker a core.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mlops.local.process import kill_group
from mlops.settings import machine_cores

# Environments that a run has made are there for the next one.
ENVIRONMENTS = Path(".bench")
INSTALL_SECONDS = 900.0
READY_SECONDS = 120.0
SKLEARN = "scikit-learn==1.9.*"

BENTO = """
import bentoml, joblib
import numpy as np

@bentoml.service(workers=%(cores)d, logging={"access": {"enabled": False}})
class Model:
    def __init__(self):
        self.model = joblib.load(%(model)r)

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)
"""

RAY = """
import joblib, time
import numpy as np
import ray
from ray import serve

@serve.deployment(num_replicas=%(cores)d, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Model:
    def __init__(self):
        self.model = joblib.load(%(model)r)

    async def __call__(self, request):
        body = await request.json()
        return self.model.predict(np.asarray(body["rows"])).tolist()

ray.init(include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": %(port)d})
serve.run(Model.bind())
while True:
    time.sleep(60)
"""


@dataclass(kw_only=True)
class Peer:
    """A server that answers. `body` is one row."""

    name: str
    address: str
    path: str
    body: bytes
    process: subprocess.Popen[bytes] = field(repr=False)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        kill_group(self.process.pid)


class Skipped(Exception):
    """Why a peer is not measured."""


def mlflow(directory: Path, row: pd.DataFrame, port: int) -> Peer:
    """`mlflow models serve` of MLflow's own model, which `directory` holds."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(directory / "mlflow-model")]
    command += ["--port", str(port), "--env-manager", "local", "--workers", str(machine_cores())]
    body = json.dumps({"dataframe_split": {"columns": list(row), "data": row.to_numpy().tolist()}})
    process = launch("mlflow", command, directory, {"MLFLOW_DISABLE_TELEMETRY": "true"})
    return Peer(name="mlflow", address=f"127.0.0.1:{port}", path="/invocations", body=body.encode(), process=process)


def bentoml(directory: Path, row: pd.DataFrame, port: int) -> Peer:
    """BentoML with adaptive batching."""
    python = environment("bentoml", "bentoml", SKLEARN, "joblib")
    service = BENTO % {"model": str(directory / "model.joblib"), "cores": machine_cores()}
    (directory / "bento_service.py").write_text(service)
    command = [str(python), "-m", "bentoml", "serve", "bento_service:Model", "--port", str(port), "--host", "127.0.0.1"]
    process = launch("bentoml", command, directory, {"BENTOML_DO_NOT_TRACK": "True"})
    body = json.dumps({"rows": row.to_numpy().tolist()}).encode()
    return Peer(name="bentoml", address=f"127.0.0.1:{port}", path="/predict", body=body, process=process)


def ray(directory: Path, row: pd.DataFrame, port: int) -> Peer:
    """Ray Serve with a replica a core."""
    python = environment("ray", "ray[serve]", SKLEARN, "joblib")
    code = RAY % {"model": str(directory / "model.joblib"), "cores": machine_cores(), "port": port}
    (directory / "ray_service.py").write_text(code)
    process = launch(
        "ray", [str(python), str(directory / "ray_service.py")], directory, {"RAY_USAGE_STATS_ENABLED": "0"}
    )
    body = json.dumps({"rows": row.to_numpy().tolist()}).encode()
    return Peer(name="ray", address=f"127.0.0.1:{port}", path="/", body=body, process=process)


def launch(name: str, command: list[str], directory: Path, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    with (directory / f"{name}.log").open("wb") as output:
        binaries = str(Path(command[0]).parent)
        variables = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", **extra}
        return subprocess.Popen(
            command, cwd=directory, env=variables, stdout=output, stderr=output, start_new_session=True
        )


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with these packages, installed once. Raises Skipped."""
    directory = ENVIRONMENTS.absolute() / name
    python = directory / "bin" / "python"
    done = directory / ".installed"
    if done.exists():
        return python
    venv.create(directory, with_pip=True)
    try:
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *packages],
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise Skipped(f"{packages[0]} does not install: {error.stderr.decode()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Skipped(f"{packages[0]} did not install within {INSTALL_SECONDS:g} s") from error
    done.touch()
    return python


async def answering(peer: Peer, expected: np.ndarray, log: Path) -> None:
    """Returns once the peer answers what the model says. Raises Skipped."""
    import httpx

    async with httpx.AsyncClient(base_url=f"http://{peer.address}", trust_env=False) as client:
        last = "nothing"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    if peer.process.poll() is not None:
                        raise Skipped(f"{peer.name} ended: {log.read_text()[-500:]}")
                    try:
                        headers = {"content-type": "application/json"}
                        answer = await client.post(peer.path, content=peer.body, headers=headers, timeout=10)
                        last = answer.text[:200]
                        if answer.status_code == 200:
                            found = answer.json()
                            said = found["predictions"] if isinstance(found, dict) else found
                            assert list(said) == list(expected), (said, expected)
                            return
                    except httpx.TransportError as error:
                        last = repr(error)
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise Skipped(f"{peer.name} did not answer within {READY_SECONDS:g} s: {last}") from error
