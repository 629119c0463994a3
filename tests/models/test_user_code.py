"""Functions and classes of the user's own, found again in a job's process."""

from autoopt.models import user_code

SOURCE = """
runs = []
runs.append(1)


class Own:
    pass


def make():
    return Own()
"""


def test_task_py_is_imported_once_for_all_that_is_found_in_it(tmp_path):
    """Two imports would give two classes of one name: what one makes is no instance of the other."""
    path = str(tmp_path / "task.py")
    user_code.run(SOURCE, tmp_path / "task.py")
    own, make, runs = (user_code.find({"module": "", "name": n}, SOURCE, path) for n in ("Own", "make", "runs"))
    assert isinstance(make(), own)
    assert runs == [1]
    assert user_code.find({"module": "", "name": "Own"}, SOURCE, path) is own


def test_another_task_py_is_another_module(tmp_path):
    path = str(tmp_path / "task.py")
    own = user_code.find({"module": "", "name": "Own"}, SOURCE, path)
    changed = SOURCE + "\n# changed\n"
    assert user_code.find({"module": "", "name": "Own"}, changed, path) is not own
    assert user_code.find({"module": "", "name": "Own"}, SOURCE, str(tmp_path / "other.py")) is not own
