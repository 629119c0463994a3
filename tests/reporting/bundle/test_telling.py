"""A person's own files in predict.py: read, scaled only where that is beyond doubt, and told in words."""

import json

import numpy as np
import pytest

from autoopt.reporting.bundle import telling

PIXELS = {"dtype": "float32", "low": 0.0, "high": 1.0, "whole": False, "items": 256, "split": "calibration"}
CLASSES = {"kind": "classes", "values": "probabilities"}
NUMBERS = {"kind": "values", "values": "numbers"}


def end(*shape, name="x", dtype="float32", scale=None, zero=None):
    return {"name": name, "key": name, "shape": [1, *shape], "dtype": dtype, "scale": scale, "zero_point": zero}


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Ask a made-up bundle: what stands on standard output, line by line."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)

    def asked(predict, inputs, meaning, *arguments, data=None, names=(), **more):
        meaning = [meaning] if isinstance(meaning, dict) else meaning
        card = {"inputs": inputs, "meaning": meaning, "data": data, "quality": "accuracy", "metrics": {}} | more
        (folder / "card.json").write_text(json.dumps(card))
        (folder / "labels.txt").unlink(missing_ok=True)
        if names:
            (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names))
        telling.main(folder, predict, [str(argument) for argument in arguments])
        return capsys.readouterr().out.splitlines()

    return asked


@pytest.fixture
def refused(ask, capsys):
    """Ask, and have the one line that says what is wrong."""

    def asked(*arguments, **more):
        with pytest.raises(SystemExit) as caught:
            ask(*arguments, **more)
        assert caught.value.code == 2
        text = capsys.readouterr().err
        assert text.startswith("predict.py: ")
        assert text.count("\n") == 1
        return text

    return asked


def save(tmp_path, name, values):
    np.save(tmp_path / name, values)
    return name


# ---- what comes out


def test_the_most_likely_classes_come_first_with_their_probabilities(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    (line,) = ask(lambda x: np.array([0.1, 0.7, 0.2]), [end(3)], CLASSES, "x.npy", names=("a", "b", "c"))
    assert line == "x.npy: b 70.00 %, c 20.00 %, a 10.00 %"
    (line,) = ask(lambda x: np.array([0.1, 0.7, 0.2]), [end(3)], CLASSES, "x.npy")
    assert line == "x.npy: class 1 70.00 %, class 2 20.00 %, class 0 10.00 %"


def test_of_many_classes_five_are_told(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    (line,) = ask(lambda x: np.full(100, 0.01), [end(3)], CLASSES, "x.npy")
    assert line.count("%") == 5


def test_logits_become_probabilities_and_that_is_said(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    meaning = {"kind": "classes", "values": "logits"}
    (line,) = ask(lambda x: np.log([1.0, 8.0, 1.0]), [end(3)], meaning, "x.npy")
    assert line == "x.npy: class 1 80.00 %, class 0 10.00 %, class 2 10.00 % (softmax of the model's logits)"


def test_scores_are_not_called_probabilities(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    (line,) = ask(lambda x: np.array([-2.0, 3.5]), [end(3)], {"kind": "classes", "values": "scores"}, "x.npy")
    assert line == "x.npy: class 1 3.5, class 0 -2 (scores, no probabilities)"


@pytest.mark.parametrize(
    ("score", "meaning", "told"),
    [
        (0.9, {"values": "probabilities", "threshold": 0.5}, "on (probability of on 90.00 %, decided at 50.00 %)"),
        (0.2, {"values": "probabilities", "threshold": 0.5}, "off (probability of on 20.00 %, decided at 50.00 %)"),
        (
            np.log(3),
            {"values": "logits", "threshold": 0.0},
            "on (probability of on 75.00 %, decided at 50.00 %) (sigmoid of the model's logits)",
        ),
        (-0.1, {"values": "scores", "threshold": 0.0}, "off (score of on -0.1, decided at 0)"),
    ],
)
def test_a_decision_comes_with_the_probability_of_yes(score, meaning, told, ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    asked = ask(lambda x: np.array([score]), [end(3)], {"kind": "binary"} | meaning, "x.npy", names=("off", "on"))
    assert asked == [f"x.npy: {told}"]


def test_each_label_is_told_by_itself(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    meaning = {"kind": "labels", "values": "probabilities", "threshold": 0.5}
    (line,) = ask(lambda x: np.array([0.6, 0.1, 0.9]), [end(3)], meaning, "x.npy", names=("cat", "dog", "car"))
    assert line == "x.npy: car 90.00 %, cat 60.00 %; not dog 10.00 %; decided at 50.00 %"
    (line,) = ask(lambda x: np.zeros(3), [end(3)], meaning, "x.npy")
    assert line.startswith("x.npy: none; not class 0 0.00 %")


def test_a_mask_is_written_and_the_classes_shares_are_told(ask, tmp_path):
    scores = np.zeros((4, 6, 3))
    scores[..., 0] = 0.5
    scores[0, :, 2] = 1
    save(tmp_path, "photo.npy", np.zeros((4, 6)))
    meaning = {"kind": "mask", "values": "probabilities"}
    (line,) = ask(lambda x: scores, [end(4, 6, 1)], meaning, "photo.npy", names=("ground", "road", "car"))
    assert line.startswith("photo.npy: ground 75.00 %, car 25.00 % of 4 x 6 places; written to photo_predicted.npy")
    assert (np.load(tmp_path / "photo_predicted.npy") == scores.argmax(axis=-1)).all()
    (line,) = ask(lambda x: scores, [end(4, 6, 1)], meaning, "photo.npy")
    assert "photo_predicted.npy (replaced)" in line


def test_a_mask_of_yes_and_no_is_decided_at_each_place(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros((4, 6)))
    meaning = {"kind": "mask", "values": "logits", "threshold": 0.0}
    scores = np.where(np.arange(24).reshape(4, 6, 1) < 6, 2.0, -2.0)
    (line,) = ask(lambda x: scores, [end(4, 6, 1)], meaning, "x.npy")
    assert line.startswith("x.npy: class 0 75.00 %, class 1 25.00 % of 4 x 6 places")
    assert np.load(tmp_path / "x_predicted.npy").tolist() == [[1] * 6] + [[0] * 6] * 3


def test_a_mask_becomes_an_image_with_pillow(ask, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="pip install pillow")
    save(tmp_path, "x.npy", np.zeros((4, 6)))
    scores = np.eye(3)[np.arange(24).reshape(4, 6) % 3]
    (line,) = ask(lambda x: scores, [end(4, 6, 1)], {"kind": "mask", "values": "probabilities"}, "x.npy")
    assert "x_predicted.png" in line
    with image.open(tmp_path / "x_predicted.png") as drawn:
        assert np.asarray(drawn)[0].tolist() == [0, 127, 254, 0, 127, 254]


def test_classes_in_a_row_are_named_one_after_the_other(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(4))
    (line,) = ask(lambda x: np.eye(2)[[0, 1, 1, 0]], [end(4)], {"kind": "mask", "values": "probabilities"}, "x.npy")
    assert line == "x.npy: class 0, class 1, class 1, class 0 (class 0 50.00 %, class 1 50.00 %)"


def test_a_value_comes_with_what_it_is_in_and_how_far_off_it_usually_is(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    told = ask(
        lambda x: np.array([3.25]), [end(3)], NUMBERS, "x.npy", quality="mae",
        metrics={"mae": {"label": "mae", "shown": "0.31"}},
    )  # fmt: skip
    assert told == [
        "x.npy: 3.25",
        "(values in the unit of the labels that the model was trained with; mae on the validation data: 0.31)",
    ]
    told = ask(lambda x: np.array([3.25, 1e9]), [end(3)], NUMBERS, "x.npy", names=("width", "mass"))
    assert told[0] == "x.npy: width 3.25, mass 1e+09"


def test_many_values_go_to_a_file_and_a_reconstruction_is_compared(ask, tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
    save(tmp_path, "x.npy", x)
    told = ask(lambda x: x + 0.5, [end(4, 6, 1)], NUMBERS, "x.npy")
    assert "24 values from 0.5 to 23.5, mean 12" in told[0]
    assert "mean absolute difference from the input 0.5" in told[0]
    assert (np.load(tmp_path / "x_predicted.npy") == x + 0.5).all()


def test_every_output_has_its_line(ask, tmp_path):
    save(tmp_path, "x.npy", np.zeros(3))
    told = ask(
        lambda x: {"where": np.array([1.5]), "what": np.array([0.25, 0.75])}, [end(3)], [NUMBERS, CLASSES], "x.npy"
    )
    assert told[:2] == ["x.npy: where: 1.5", "x.npy: what: class 1 75.00 %, class 0 25.00 %"]


# ---- what goes in


def test_items_of_an_array_are_told_one_by_one(ask, tmp_path):
    save(tmp_path, "x.npy", np.arange(6.0).reshape(3, 2))
    told = ask(lambda x: x.sum(keepdims=True), [end(2)], NUMBERS, "x.npy")
    assert told[:3] == ["x.npy[0]: 1", "x.npy[1]: 5", "x.npy[2]: 9"]


@pytest.mark.parametrize(
    "text", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", "1;2\r\n3;4\r\n\r\n", "\ufeff1,2\n3,4", '"1","2"\n 3, 4\n']
)
def test_a_row_of_a_table_is_an_item(text, ask, tmp_path):
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8", newline="")
    told = ask(lambda x: x.sum(keepdims=True), [end(2)], NUMBERS, "rows.csv")
    assert [line for line in told if line.startswith("rows.csv[")] == ["rows.csv[0]: 3", "rows.csv[1]: 7"]
    assert ("rows.csv: the first row is names and left out" in told) == ("a" in text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1,2\n3,4,5\n", "rows.csv: line 2: expected 2 values (2), got 3"),
        ("1,2\n3,x\n", "rows.csv: line 2: expected numbers, got 'x'"),
        ("a,b\nc,d\n", "rows.csv: line 2: expected numbers, got 'c'"),
        ("", "rows.csv: holds no items"),
        ("1,nan\n", "rows.csv: holds NaN or infinity"),
    ],
)
def test_a_table_that_does_not_fit_is_told_by_its_line(text, wrong, refused, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    assert wrong in refused(lambda x: x, [end(2)], NUMBERS, "rows.csv")


def test_several_inputs_take_a_file_each_or_an_npz_by_name(ask, refused, tmp_path):
    inputs = [end(2, name="zebra"), end(3, name="ant")]
    save(tmp_path, "a.npy", np.ones((4, 2)))
    save(tmp_path, "b.npy", np.arange(12.0).reshape(4, 3))
    np.savez(tmp_path / "both.npz", ant=np.arange(12.0).reshape(4, 3), zebra=np.ones((4, 2)))

    def predict(zebra, ant):
        return np.array([zebra.sum() + ant.sum()])

    sums = ["5", "14", "23", "32"]
    for given in (["a.npy", "b.npy"], ["both.npz"]):
        assert [line.split()[-1] for line in ask(predict, inputs, NUMBERS, *given)[:4]] == sums
    assert "the model has 2 inputs (zebra, ant)" in refused(predict, inputs, NUMBERS, "a.npy")
    assert "b.npy: expected shape (2,)" in refused(predict, inputs, NUMBERS, "b.npy", "a.npy")
    save(tmp_path, "few.npy", np.zeros((3, 3)))
    assert "as many items for each input, got 4, 3" in refused(predict, inputs, NUMBERS, "a.npy", "few.npy")
    np.savez(tmp_path / "other.npz", zebra=np.ones((4, 2)))
    assert "expected arrays named zebra, ant, got zebra" in refused(predict, inputs, NUMBERS, "other.npz")


def test_stored_samples_are_scaled_back_from_the_models_integers(ask, tmp_path):
    np.savez(tmp_path / "samples.npz", input_0=np.array([[3, 5]], np.int8), output=np.zeros((1, 1)))
    told = ask(lambda x: x, [end(2, dtype="int8", scale=0.5, zero=1)], NUMBERS, "samples.npz")
    assert told[0] == "samples.npz[0]: 1, 2"


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (np.zeros((3, 3)), "expected shape (8, 8, 1), or (items, 8, 8, 1), got (3, 3)"),
        (np.full((8, 8), np.nan), "holds NaN or infinity"),
        (np.zeros((0, 8, 8, 1)), "holds no items"),
        (np.full((8, 8), "x"), "expected numbers, got <U1"),
        (np.full((8, 8), None), "not a file of plain arrays"),
    ],
)
def test_an_array_that_does_not_fit_is_told_in_one_line(values, wrong, refused, tmp_path):
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    assert wrong in refused(lambda x: x, [end(8, 8, 1)], CLASSES, "x.npy")


@pytest.mark.parametrize("name", ["no.npy", "no.png", "no.npz", "."])
def test_a_file_that_is_not_there_is_told_in_one_line(name, refused):
    assert "give an image, an .npy or .npz, or a .csv" in refused(lambda x: x, [end(2)], CLASSES, name)


def test_whole_numbers_are_wanted_where_the_model_looks_them_up(refused, ask, tmp_path):
    words = [end(3, dtype="int32")]
    save(tmp_path, "x.npy", np.array([1, 2.5, 3]))
    assert "expected whole numbers of int32" in refused(lambda x: x, words, NUMBERS, "x.npy")
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    assert ask(lambda x: x, words, NUMBERS, "rows.csv")[0] == "rows.csv[0]: 1, 2, 3"


@pytest.mark.parametrize(("factor", "told"), [(255, True), (1, False), (0.001, True)])
def test_values_that_lie_elsewhere_than_the_tasks_are_named_and_left_alone(factor, told, ask, tmp_path):
    x = np.linspace(0, 1, 64).reshape(8, 8, 1) * factor
    save(tmp_path, "x.npy", x)
    seen = []
    lines = ask(lambda x: seen.append(x) or np.array([1.0]), [end(8, 8, 1)], NUMBERS, "x.npy", data=[PIXELS])
    assert any("CAUTION" in line for line in lines) == told
    assert (seen[0] == x).all()


# ---- images


@pytest.fixture
def photo(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="pip install pillow")
    rng = np.random.default_rng(0)
    image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    exact = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    image.fromarray(exact).save(tmp_path / "exact.png")
    return exact


@pytest.mark.parametrize(
    ("fact", "low", "high"),
    [
        ({"dtype": "uint8", "low": 0, "high": 255, "whole": True}, 0, 255),
        ({"dtype": "uint8", "low": 3, "high": 190, "whole": True}, 0, 255),
        ({"dtype": "float32", "low": 0, "high": 255, "whole": True}, 0, 255),
        ({"dtype": "float32", "low": 0, "high": 1, "whole": False}, 0, 1),
        ({"dtype": "float64", "low": 0.01, "high": 0.98, "whole": False}, 0, 1),
        ({"dtype": "float32", "low": -1, "high": 1, "whole": False}, -1, 1),
        ({"dtype": "int8", "low": -128, "high": 127, "whole": True}, -128, 127),
    ],
)
def test_an_image_is_brought_to_the_tasks_range(fact, low, high, photo, ask):
    seen = []
    told = ask(lambda x: seen.append(x) or np.array([0.5]), [end(8, 8, 1)], CLASSES, "exact.png", data=[fact])
    assert seen[0] == pytest.approx(low + photo[..., None] / 255 * (high - low), abs=1e-4)
    assert f"the task's data ({fact['dtype']}, from {fact['low']} to {fact['high']})" in told[0]
    assert ("left at 0 to 255" if high == 255 else f"scaled from 0..255 to {low}..{high}") in told[0]


def test_an_image_is_resized_and_that_is_said(photo, ask):
    seen = []
    told = ask(lambda x: seen.append(x) or np.array([0.5]), [end(8, 8, 3)], CLASSES, "photo.png", data=[PIXELS])
    assert seen[0].shape == (8, 8, 3)
    assert "photo.png: resized from 30 x 20 to 8 x 8, which changes its proportions, scaled" in told[0]
    assert told[1].startswith("photo.png: class 0")
    told = ask(lambda x: np.array([0.5]), [end(8, 12)], CLASSES, "photo.png", data=[PIXELS])
    assert "converted from RGB to L, resized from 30 x 20 to 12 x 8, scaled" in told[0]


@pytest.mark.parametrize(
    "fact",
    [
        None,
        {"dtype": "float32", "low": 0, "high": 16, "whole": True},
        {"dtype": "uint8", "low": 0, "high": 16, "whole": True},
        {"dtype": "float32", "low": -2.1, "high": 2.6, "whole": False},
        {"dtype": "float32", "low": 0, "high": 1, "whole": True},
        {"dtype": "float32", "low": 0, "high": 0.5, "whole": False},
        {"dtype": "float32", "low": -124, "high": 151, "whole": False},
    ],
)
def test_an_image_is_refused_where_its_scaling_is_in_doubt(fact, photo, refused):
    text = refused(lambda x: x, [end(8, 8, 1)], CLASSES, "exact.png", data=[fact])
    assert "give an .npy of such values" in text
    assert ("are not known" if fact is None else f"reached from {fact['low']} to {fact['high']}") in text


@pytest.mark.parametrize("shape", [(5,), (4, 3), (8, 8, 7), (3, 8, 8, 2), ()])
def test_an_image_is_refused_where_the_model_takes_none(shape, photo, refused):
    text = refused(lambda x: x, [end(*shape)], CLASSES, "exact.png", data=[PIXELS])
    assert "which is no image of height x width x colours" in text


def test_what_pillow_can_not_read_is_told_in_one_line(photo, refused, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no image")
    assert "no image that Pillow can read" in refused(lambda x: x, [end(8, 8, 1)], CLASSES, "x.jpg", data=[PIXELS])


def test_without_pillow_images_say_what_to_install(refused, tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert "pip install pillow" in refused(lambda x: x, [end(8, 8, 1)], CLASSES, "x.jpg", data=[PIXELS])


def test_the_stored_sample_is_told_without_writing_anything(ask, tmp_path):
    meaning = {"kind": "mask", "values": "probabilities"}
    np.savez(tmp_path / "bundle" / "samples.npz", input_0=np.ones((2, 4)))
    seen = []
    (line,) = ask(lambda x: seen.append(x) or np.eye(3)[np.zeros((8, 9), int)], [end(4)], meaning)
    assert line == "first stored sample: class 0 100.00 % of 8 x 9 places"
    assert seen[0].tolist() == [1, 1, 1, 1]
    (tmp_path / "bundle" / "samples.npz").unlink()
    (line,) = ask(lambda x: np.eye(3)[np.zeros((8, 9), int)], [end(4)], meaning)
    assert line == "zeros: class 0 100.00 % of 8 x 9 places"
    assert ask(lambda x: np.array([0.2, 0.8]), [end(4)], CLASSES, names=("a", "b")) == ["b 0.8"]
    assert ask(lambda x: np.array([1.5]), [end(4)], NUMBERS) == ["[1.5]"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_incomplete_folder_is_told_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        telling.main(tmp_path, lambda x: x, [])
    assert "card.json: can't read it (No such file or directory); copy the whole folder" in capsys.readouterr().err
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(SystemExit):
        telling.main(tmp_path, lambda x: x, [])
    assert "card.json: damaged" in capsys.readouterr().err
