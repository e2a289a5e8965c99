"""A batch inference in the caller's hand."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.client.download import DownloadProgress, ResultPart
from mlops.client.handle import AsyncHandle
from mlops.client.resultframe import read_frame, require_pandas
from mlops.jobs.inference import BatchResult

if TYPE_CHECKING:
    import pandas as pd


class AsyncBatchHandle(AsyncHandle[BatchResult]):
    """A batch inference. `wait` gives its BatchResult, `result` the predictions, `download` the files."""

    async def result(self, timeout: timedelta | float | str | None = None) -> pd.DataFrame:  # noqa: ASYNC109 - the blocking twin's name
        """Waits for the end of the job and returns its predictions as a pandas DataFrame, in the input's order.

        All of them are held in memory: of a result that is too large for it, `download` the files. Rows that were
        rejected are not among them. timeout: as for `wait`, whose errors it raises. Raises FailedPrecondition where
        pandas or pyarrow is not installed.
        """
        require_pandas()
        ended = await self.wait(timeout)
        with tempfile.TemporaryDirectory(prefix="mlops-result-") as directory:
            paths = await self.download(directory)
            return await asyncio.to_thread(read_frame, paths, ended.report.columns)

    async def download(
        self,
        to: str | Path = ".",
        part: ResultPart | str = ResultPart.PREDICTIONS,
        *,
        overwrite: bool = False,
        progress: DownloadProgress | None = None,
    ) -> tuple[Path, ...]:
        """Fetches the files of the ended job's result; see `client.jobs.download`."""
        return await self._jobs.download(self.id, to, part, overwrite=overwrite, progress=progress)

    def _known(self) -> BatchResult | None:
        return self._job.batch_result
