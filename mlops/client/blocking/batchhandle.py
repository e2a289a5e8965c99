"""A batch inference in the hand of a synchronous program."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.client.batchhandle import AsyncBatchHandle
from mlops.client.blocking.handle import Handle
from mlops.client.blocking.loop import LoopThread
from mlops.client.download import DownloadProgress, ResultPart
from mlops.jobs.inference import BatchResult

if TYPE_CHECKING:
    import pandas as pd


class BatchHandle(Handle[BatchResult]):
    """A batch inference. `wait` gives its BatchResult, `result` the predictions, `download` the files."""

    _handle: AsyncBatchHandle

    def __init__(self, loop: LoopThread, handle: AsyncBatchHandle) -> None:
        super().__init__(loop, handle)

    def result(self, timeout: timedelta | float | str | None = None) -> pd.DataFrame:
        """Waits for the end of the job and returns its predictions as a pandas DataFrame, in the input's order.

        All of them are held in memory: of a result that is too large for it, `download` the files. Rows that were
        rejected are not among them. timeout: as for `wait`, whose errors it raises. Raises FailedPrecondition where
        pandas or pyarrow is not installed.
        """
        return self._loop.run(self._handle.result(timeout))

    def download(
        self,
        to: str | Path = ".",
        part: ResultPart | str = ResultPart.PREDICTIONS,
        *,
        overwrite: bool = False,
        progress: DownloadProgress | None = None,
    ) -> tuple[Path, ...]:
        """Fetches the files of the ended job's result; see `client.jobs.download`."""
        return self._loop.run(self._handle.download(to, part, overwrite=overwrite, progress=progress))
