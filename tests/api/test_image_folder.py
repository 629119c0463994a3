"""`autoopt init --images`: which pictures are found, what becomes of them, and what is said of a folder that is no such."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tf_keras
import tiny
from click.testing import CliRunner
from PIL import Image

from autoopt.api import init, row_file
from autoopt.api.image_folder import ImageFolder
from autoopt.cli.commands import main
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.models import task as tasks

layers = tf_keras.layers
NAMES = ("apple", "pear", "plum")


BRIGHTNESS = np.array([40, 120, 210])
"""About the mean of pictures of each class."""


def pixels(label, number, size=(12, 10)):
    """A picture that is dark, of medium brightness, or bright."""
    x = np.random.default_rng(100 * label + number).normal(BRIGHTNESS[label % 3], 15, (*size, 3))
    return np.clip(x, 0, 255).astype(np.uint8)


def fill(folder, per_class=20, names=NAMES):
    """Folders of classes with pictures in them."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            Image.fromarray(pixels(label, number)).save(folder / name / f"{number:02}.png")
    return folder


def bright(scale=1.0, offset=0.0, first=None):
    """A model that tells dark, medium and bright apart in values of 0 to 255 times this scale, plus this offset."""
    stack = [*([first] if first else []), layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    model = tiny.network(*stack, shape=(6, 5, 3))
    slopes, bias = 0.2 * np.array([0, 1, 2]), 0.2 * np.array([0, -80, -245])  # they cross at 80 and at 165
    model.layers[-1].set_weights([np.tile(slopes / scale / 3, (3, 1)), bias - slopes * offset / scale])
    return model


def filled(tmp_path, images, model=None, **how):
    """What filling a study's folder says, and the folder."""
    made, said = tmp_path / "study", []
    made.mkdir()
    ImageFolder(path=images, **how).fill(made, model or bright(), said.append, lambda done, of: None)
    return made, said


def loaded(folder, part):
    return tuple(np.load(folder / f"{kind}_{part}.npy", mmap_mode="r", allow_pickle=False) for kind in "xy")


@pytest.mark.parametrize("val", ["validation", "val", "valid", "Val"])
def test_pixels_labels_and_names_are_those_of_keras_loader(val, tmp_path):
    for part in ("train", val, "test"):
        fill(tmp_path / "images" / part, per_class=4)
    folder, _ = filled(tmp_path, tmp_path / "images")
    for part, place in (("train", "train"), ("validation", val), ("test", "test")):
        data = tf_keras.utils.image_dataset_from_directory(
            tmp_path / "images" / place, image_size=(6, 5), shuffle=False, batch_size=100
        )
        assert json.loads((folder / "class_names.json").read_text()) == data.class_names
        wanted_x, wanted_y = next(iter(data))
        x, y = loaded(folder, part)
        assert x.dtype == np.uint8
        assert np.abs(x - wanted_x.numpy()).max() <= 0.51
        np.testing.assert_array_equal(y, wanted_y)


def test_what_is_missing_is_split_off_each_class_alike_and_always_the_same(tmp_path):
    images = fill(tmp_path / "images")
    folder, said = filled(tmp_path, images)
    counts = {part: np.bincount(loaded(folder, part)[1]).tolist() for part in ("train", "validation", "test")}
    assert counts == {"train": [14] * 3, "validation": [3] * 3, "test": [3] * 3}
    assert "9 of 60 training items were split off for validation, of each class alike" in said[0]
    rows = [row.tobytes() for part in counts for row in loaded(folder, part)[0]]
    assert len(set(rows)) == 60, "a picture stands in two splits"
    other, _ = filled(tmp_path / "again", images) if (tmp_path / "again").mkdir() is None else None
    for part in counts:
        np.testing.assert_array_equal(loaded(folder, part)[0], loaded(other, part)[0])


@pytest.mark.parametrize(
    ("scale", "offset", "way"), [(1, 0, "0 to 255"), (1 / 255, 0, "x / 255"), (1 / 127.5, -1, "x / 127.5 - 1")]
)
def test_values_are_scaled_as_the_model_expects(scale, offset, way, tmp_path):
    model = bright(scale, offset)
    folder, said = filled(tmp_path, fill(tmp_path / "images"), model)
    assert json.loads((folder / "preparation.json").read_text())["scaling"] == way
    assert way in said[-1]
    assert loaded(folder, "train")[0].dtype == np.uint8, "float32 would take four times the disk"


@pytest.mark.parametrize("way", ["caffe", "torch"])
def test_values_are_scaled_as_keras_own_models_expect(way, tmp_path):
    given = np.float32([[[[0, 0, 0]]], [[[255, 255, 255]]]])
    low, high = tf_keras.applications.imagenet_utils.preprocess_input(given.copy(), mode=way).reshape(2, 3)
    model = bright()
    kernel, bias = model.layers[-1].get_weights()
    slopes = kernel * 255 / (high - low)[:, None]
    model.layers[-1].set_weights([slopes, bias - low @ slopes])
    model.save(tmp_path / "model.keras")
    images, said = ImageFolder(path=fill(tmp_path / "images")), []
    init.create(tmp_path / "study", tmp_path / "model.keras", images, "smoke", 7, said.append)
    assert f"gives the model {way}" in " ".join(said)
    x, _ = (np.concatenate(column) for column in zip(*tasks.load(tmp_path / "study" / "task.py").train(), strict=True))
    plain = loaded(tmp_path / "study", "train")[0].astype(np.float32)
    wanted = tf_keras.applications.imagenet_utils.preprocess_input(plain.copy(), mode=way)
    np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-4)
    told = json.loads((tmp_path / "study" / "preparation.json").read_text())["in_python"]
    np.testing.assert_allclose(eval(told, {"np": np, "x": plain}), wanted, rtol=1e-5, atol=1e-4)


def test_a_model_that_rescales_itself_gets_pixels_as_they_are(tmp_path):
    model = bright(1 / 255, first=layers.Rescaling(1 / 255, name="own"))
    folder, said = filled(tmp_path, fill(tmp_path / "images"), model)
    assert json.loads((folder / "preparation.json").read_text())["scaling"] == "0 to 255"
    assert "the model scales its inputs itself (own: x * 0.00392 + 0)" in said[-1]


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_the_study_loads_what_the_model_expects(scale, tmp_path):
    bright(scale).save(tmp_path / "model.keras")
    fill(tmp_path / "images")
    target, said = tmp_path / "study", []
    init.create(target, tmp_path / "model.keras", ImageFolder(path=tmp_path / "images"), "smoke", 7, said.append)
    task = tasks.load(target / "task.py")
    assert (task.class_names, task.metric) == (NAMES, "accuracy")
    if scale == 1:
        assert isinstance(task.train[0], np.memmap)
        x, y = task.train
    else:
        x, y = (np.concatenate(column) for column in zip(*task.train(), strict=True))
        assert x.dtype == np.float32
    np.testing.assert_allclose(x, loaded(target, "train")[0] * np.float32(scale), rtol=1e-6)
    outputs = tf_keras.models.load_model(tmp_path / "model.keras").predict(np.asarray(x), verbose=0)
    assert (outputs.argmax(axis=1) == y).all()


def test_one_output_is_two_classes(tmp_path):
    model = tiny.network(layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid"), shape=(6, 5, 3))
    folder, _ = filled(tmp_path, fill(tmp_path / "images", names=("no", "yes")), model)
    assert set(loaded(folder, "train")[1]) == {0, 1}


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 9), (8, 8, 4)])
def test_channels_are_those_that_the_model_takes(shape, tmp_path):
    model = tiny.network(layers.Flatten(), layers.Dense(3, activation="softmax"), shape=shape)
    folder, _ = filled(tmp_path, fill(tmp_path / "images"), model)
    assert loaded(folder, "test")[0].shape == (9, *shape)


def test_other_files_and_hidden_ones_are_left_out_and_said(tmp_path):
    images = fill(tmp_path / "images")
    for name in (".DS_Store", ".hidden.png", "notes.txt", "a.heic"):
        (images / "apple" / name).write_bytes(b"x")
    (images / ".git").mkdir()
    (images / "README.md").write_text("mine")
    (images / "apple" / "empty").mkdir()
    (images / "apple" / "loop").symlink_to(images)
    folder, said = filled(tmp_path, images)
    assert "left out what is no picture: 2 folders, 1 .heic, 1 .md, 1 .txt" in said[2]
    assert sum(len(loaded(folder, part)[1]) for part in ("train", "validation", "test")) == 60


def test_links_to_pictures_and_folders_are_followed(tmp_path):
    real = fill(tmp_path / "real")
    images = tmp_path / "images"
    images.mkdir()
    for name in NAMES:
        (images / name).symlink_to(real / name)
    (real / "apple" / "link.png").symlink_to(real / "apple" / "00.png")
    folder, _ = filled(tmp_path, images)
    assert sum(len(loaded(folder, part)[1]) for part in ("train", "validation", "test")) == 61


def spoil(folder, number):
    for path in sorted(folder.rglob("*.png"))[:number]:
        path.write_bytes(path.read_bytes()[:90])


def test_pictures_that_cant_be_read_are_named_and_counted(tmp_path):
    spoil(fill(tmp_path / "images"), 7)
    with pytest.raises(ConfigError, match="7 of 60 pictures can't be read: ") as refused:
        filled(tmp_path, tmp_path / "images")
    assert str(refused.value).count(".png (") == 5
    assert "and 2 more; mend or remove them, or leave them out with --skip-bad" in str(refused.value)


def test_some_that_cant_be_read_may_be_left_out(tmp_path):
    spoil(fill(tmp_path / "images"), 6)
    with pytest.raises(ConfigError, match=r"6 of 60 pictures can't be read: .* more than the 9\.5 % of --skip-bad"):
        filled(tmp_path, tmp_path / "images", skip_bad=0.095)
    shutil.rmtree(tmp_path / "study")
    folder, said = filled(tmp_path, tmp_path / "images", skip_bad=0.1)
    parts = {part: loaded(folder, part) for part in ("train", "validation", "test")}
    assert sum(len(x) for x, _ in parts.values()) == 54
    assert all(len(x) == len(y) for x, y in parts.values())
    assert any("left out: 6 of 60 pictures can't be read" in text for text in said)
    for x, y in parts.values():
        found = np.abs(x.mean(axis=(1, 2, 3))[:, None] - BRIGHTNESS).argmin(axis=1)
        np.testing.assert_array_equal(found, y)  # no row moved to another's label


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path):
    spoil(fill(tmp_path / "images"), 20)
    with pytest.raises(ConfigError, match="no picture can be read in train of class apple"):
        filled(tmp_path, tmp_path / "images", skip_bad=0.5)


def lay(root, *paths):
    """Folders, and pictures where a name ends so."""
    for path in paths:
        place = root / path
        if place.suffix:
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(0, 0)).save(place)
        else:
            place.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([""], "no class folders; expected FOLDER/CLASS/picture.jpg"),
        (["a/1.png"], r"one class only \(a\)"),
        (["a/1.png", "b"], "no pictures in b"),
        (["1.png", "2.png"], r"pictures without folders of classes \(1.png, 2.png\)"),
        (["a/1.png", "b/1.png", "c.png"], "c.png: pictures beside the class folders: of which class"),
        (["a/b/1.png", "c/1.png"], "images/a/b: a folder with pictures inside the folder of a class"),
        (["all/train/a/1.png", "all/train/b/1.png"], "images/all/train: a folder with pictures inside"),
        (["test/a/1.png", "val/b/1.png"], "has val, test, but no train"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], "images/val: lacks b; expected the same class folders as"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/B/1.png"], "images/val: lacks b and has B more"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"], "val, valid are both folders for valid"),
        (["train/a/1.png", "train/b/1.png", "c/1.png"], "train, validation .* alone, got also c"),
        (["train/a/1.png", "train/b/1.png", "1.png"], "1.png: pictures beside train"),
        (["train/a/1.png", "train/b/1.png", "val/a", "val/b"], "images/val: no pictures in it"),
        (["a/1.png", "b/1.png"], r"2 class folders \(a, b\), but the model has 3 outputs"),
        (["a/1.png", "b/1.png", "c/1.png", "d/1.png"], "4 class folders .* but the model has 3 outputs"),
        (["a/1.png", "b/1.png", "c/1.png"], "3 items are too few to split a validation set off; give a folder valid"),
    ],
)  # fmt: skip
def test_a_folder_laid_out_otherwise_is_one_clear_line(paths, message, tmp_path):
    lay(tmp_path / "images", *paths)
    with pytest.raises(ConfigError, match=message) as refused:
        filled(tmp_path, tmp_path / "images")
    assert "\n" not in str(refused.value)


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    folder, _ = filled(tmp_path, fill(tmp_path / "images", names=("bus", "test", "train")))
    assert json.loads((folder / "class_names.json").read_text()) == ["bus", "test", "train"]


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_what_is_no_folder_is_refused(kind, tmp_path):
    if kind == "file":
        (tmp_path / "images").write_text("x")
    with pytest.raises(ConfigError, match="images: expected a folder of pictures"):
        filled(tmp_path, tmp_path / "images")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((30,), "the model takes 30 an item, which is no picture"), ((3, 8, 8), "channels must come last")],
)
def test_a_model_that_takes_no_pictures_is_refused(shape, message, tmp_path):
    model = tiny.network(layers.Flatten(), layers.Dense(3, activation="softmax"), shape=shape)
    with pytest.raises(ConfigError, match=message):
        filled(tmp_path, fill(tmp_path / "images"), model)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 500))
    with pytest.raises(
        TargetUnavailable, match=r"writing 60 pictures of 6 x 5 x 3 .* needs 0\.01 MB of disk, and 0\.00 MB are free"
    ):
        filled(tmp_path, fill(tmp_path / "images"))
    assert not list((tmp_path / "study").iterdir())


def test_nothing_stays_where_it_fails(tmp_path):
    spoil(fill(tmp_path / "images"), 1)
    bright().save(tmp_path / "model.keras")
    arguments = [
        "init",
        str(tmp_path / "study"),
        "--model",
        str(tmp_path / "model.keras"),
        "--images",
        str(tmp_path / "images"),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "1 of 60 pictures can't be read" in done.stderr.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"images", "model.keras"}


def test_a_file_of_rows_is_reserved_and_ends_where_the_last_row_does(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "MAPPED_BYTES", 40)
    rows = np.arange(120, dtype=np.uint8).reshape(10, 3, 4)
    with row_file.RowFile(tmp_path / "x.npy", 1000, (3, 4), np.uint8) as file:
        assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 12_000
        for row in rows:
            file.add(row)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), rows)
    assert (tmp_path / "x.npy").stat().st_size < 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path):
    """A process that writes through a map to a full disk would be killed."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("can't mount")
    try:
        with pytest.raises(TargetUnavailable, match=r"x\.npy: can't be written \(No space left"):
            row_file.RowFile(tmp_path / "x.npy", 1000, (100, 100), np.uint8)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_without_pillow_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"pip install 'autoopt\[images\]'"):
        filled(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected one of --data, --images, --table, got none"),
        (["--images", "x", "--table", "y"], "got --images and --table"),
        (["--data", "x", "--skip-bad", "1%"], "--skip-bad is about pictures"),
        (["--images", "x", "--label", "y"], "--label is about a table"),
        (["--table", "x"], "--table needs --label"),
        (["--images", "x", "--skip-bad", "some"], "expected a share such as 5%, got 'some'"),
        (["--images", "x", "--skip-bad", "101%"], "expected a share such as 5%"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(given, message):
    done = CliRunner().invoke(main, ["init", "new", "--model", "m.h5", *given])
    assert done.exit_code == 2
    assert message in done.stderr


def test_skip_bad_alone_means_one_percent(tmp_path):
    """The folder `apple` is spoilt by more than that, so that the share is told."""
    spoil(fill(tmp_path / "images"), 1)
    bright().save(tmp_path / "model.keras")
    given = [
        "init",
        tmp_path / "study",
        "--model",
        tmp_path / "model.keras",
        "--images",
        tmp_path / "images",
        "--skip-bad",
    ]
    assert "more than the 1 % of --skip-bad" in CliRunner().invoke(main, [str(a) for a in given]).stderr
