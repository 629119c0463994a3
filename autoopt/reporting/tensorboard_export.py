"""Writes a study's candidates for TensorBoard's HParams page, by TensorBoard's own writer: a folder a candidate."""

import os
from pathlib import Path

from autoopt.core.results import Results
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.reporting.tracking import Tracked, tracked


def write(results: Results, folder: Path) -> int:
    """Write all candidates that were measured, into folders that are not there yet.

    Args:
        results: of the study.
        folder: that `tensorboard --logdir` is given.

    Returns:
        how many were written.

    Raises:
        ConfigError: if TensorBoard is not installed, or a candidate's folder is there already.
        TargetUnavailable: if the folder can't be written.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard loads TensorFlow where that is installed
    try:
        import tensorboard  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ConfigError("an export for TensorBoard needs it: pip install 'autoopt[tensorboard]'") from error
    chosen = [one for one in tracked(results) if not one.failed]
    places = {one.number: folder / f"{results.study}-{one.number:05d}" for one in chosen}
    taken = next((place for place in places.values() if place.exists()), None)
    if taken is not None:
        raise ConfigError(f"{taken}: exists already, and would show twice; give another folder, or remove it")
    try:
        for one in chosen:
            _write(one, places[one.number])
    except OSError as error:
        raise TargetUnavailable(f"{folder}: can't write ({error.strerror})") from error
    return len(chosen)


def _write(one: Tracked, place: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.api import hparams_pb
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(place))
    moment = one.ended or None
    writer.add_event(Event(wall_time=moment, summary=hparams_pb(dict(one.parameters), trial_id=place.name)))
    for name, value in one.metrics.items():
        writer.add_event(Event(wall_time=moment, step=0, summary=scalar_pb(name, value)))
    writer.close()
