"""Studies seen from outside, while a driver may be running them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoopt.api.saved_study import SavedResults, load_again
from autoopt.core import json_text
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Known


class Watched:
    """Studies as they are now; read again only when one of their files has changed.

    Args:
        paths: folders of studies.
        warn: is told of damaged records, once while they are the same.
    """

    def __init__(self, paths: Sequence[Path], warn: Callable[[str], object] = lambda text: None) -> None:
        self._warn = warn
        self.folders = [StudyFolder(path) for path in paths]
        self._known = [Known() for _ in self.folders]
        self._seen: dict[int, tuple[object, SavedResults]] = {}

    def version(self, index: int) -> list[str]:
        """Changes when the results do; texts, for a browser would round the nanoseconds."""
        folder = self.folders[index]
        return [
            str(p.stat().st_mtime_ns) if p.exists() else "" for p in (folder.header, folder.candidates, folder.skipped)
        ]

    def results(self, index: int) -> SavedResults:
        """The results so far.

        Raises:
            ConfigError: if there are none yet.
        """
        version = self.version(index)
        before, results = self._seen.get(index, (None, None))
        if results is None or before != version:
            results = load_again(self.folders[index], self._known[index])
            if results.damaged and (before is None or self._seen[index][1].damaged != results.damaged):
                self._warn(results.warning())
            self._seen[index] = version, results
        return results

    def now(self, index: int) -> Mapping[str, Any]:
        """What the driver is at, or nothing if none runs."""
        folder = self.folders[index]
        if folder.driver() is None:
            return {}
        try:
            found = json_text.parse(folder.now.read_bytes())
        except (OSError, ValueError):
            return {"running": []}
        return found if isinstance(found, dict) else {"running": []}
