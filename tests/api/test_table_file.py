"""`autoopt init --table`: what becomes of columns, checked with scikit-learn and pandas, and what is said of bad tables."""

import json

import numpy as np
import pandas as pd
import pytest
import tf_keras
import tiny
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from autoopt.api import init, table_columns, table_encoding, table_reading
from autoopt.api.table_columns import Column
from autoopt.api.table_file import TableFile
from autoopt.cli.commands import main
from autoopt.errors import ConfigError
from autoopt.models import task as tasks

layers = tf_keras.layers
PARTS = ("train", "validation", "test")
RNG = np.random.default_rng(0)
N = 120
FRAME = pd.DataFrame(
    {
        "place": np.arange(N),
        "age": RNG.normal(40, 12, N).round(1),
        "city": RNG.choice(["Ulm", "Bonn", "Köln, am Rhein", 'the "old"\ntown'], N),
        "colour": RNG.choice(["red", "blue"], N),
        "kind": RNG.choice(["setosa", "virginica", "versicolor"], N),
    }
)
"""A number that is another in each row, so that it tells which row an item was."""


def model(width, outputs=3, last="softmax", first=(), shape=None):
    dense = layers.Dense(outputs, activation=last)
    return tiny.network(*first, layers.Flatten(), dense, shape=shape or (width,), name="x")


def line():
    """A model whose outputs are no probabilities."""
    made = model(1, 1, None)
    made.layers[-1].set_weights([np.array([[3.0]]), np.array([1.0])])
    return made


def filled(tmp_path, frame, network, label="kind", name="table.csv", **how):
    """What filling a study's folder says, and the folder."""
    if isinstance(frame, pd.DataFrame):
        frame.to_csv(tmp_path / name, **({"index": False} | how))
    elif frame is not None:
        (tmp_path / name).write_bytes(frame if isinstance(frame, bytes) else frame.encode())
    made, said = tmp_path / "study", []
    made.mkdir()
    TableFile(path=tmp_path / name, label=label).fill(made, network, said.append, lambda done, of: None)
    return made, said


def loaded(folder, part):
    return tuple(np.load(folder / f"{kind}_{part}.npy", allow_pickle=False) for kind in "xy")


def steps(folder):
    plain = json.loads((folder / "preparation.json").read_text())
    return plain, {step["column"]: step for step in plain["columns"]}


def rows(folder, part):
    """Which rows of `FRAME` the items of a split are."""
    step = steps(folder)[1]["place"]
    x = loaded(folder, part)[0].reshape(-1, steps(folder)[0]["columns"][-1]["values"][1])
    return np.rint(x[:, step["values"][0]] * step["divide"] + step["subtract"]).astype(int)


def with_sklearn(frame, train, categories):
    """Standardised numbers and encoded categories by scikit-learn, in the order of the frame's columns."""
    made = ColumnTransformer(
        [
            (name, make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [name])
            if pd.api.types.is_numeric_dtype(frame[name])
            else (name, categories, [name])
            for name in frame.columns
        ],
        sparse_threshold=0,
    )
    made.fit(frame.iloc[train])
    return made.transform(frame)


@pytest.fixture
def standardised(monkeypatch):
    """Whichever way the model likes best, numbers are standardised: a model without training likes none."""
    monkeypatch.setattr(table_encoding, "ways", lambda columns: WAYS(columns)[:1])


WAYS = table_encoding.ways


@pytest.mark.parametrize(
    ("width", "coding", "encoder"),
    [(8, "one-hot", OneHotEncoder()), (4, "ordinal", OrdinalEncoder())],
)
def test_columns_become_what_scikit_learn_makes_of_them(width, coding, encoder, tmp_path, standardised):
    folder, said = filled(tmp_path, FRAME, model(width))
    inputs = FRAME.drop(columns="kind")
    wanted = with_sklearn(inputs, rows(folder, "train"), encoder)
    _, classes = np.unique(FRAME["kind"], return_inverse=True)
    seen = []
    for part in PARTS:
        chosen = rows(folder, part)
        x, y = loaded(folder, part)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, wanted[chosen], atol=1e-5)
        np.testing.assert_array_equal(y, classes[chosen])
        seen += chosen.tolist()
    assert sorted(seen) == list(range(N)), "each row stands in one split"
    assert json.loads((folder / "class_names.json").read_text()) == ["setosa", "versicolor", "virginica"]
    assert f"categories {coding} (city {4 if coding == 'one-hot' else 1}" in said[-1]


def test_missing_values_are_the_median_of_train_and_a_category_of_their_own(tmp_path, standardised):
    frame = FRAME.copy()
    frame.loc[RNG.choice(N, 20, replace=False), "age"] = np.nan
    frame.loc[RNG.choice(N, 20, replace=False), "city"] = None
    folder, said = filled(tmp_path, frame, model(9))
    inputs = frame.drop(columns="kind")
    train = rows(folder, "train")
    median = SimpleImputer(strategy="median").fit(inputs[["age"]].iloc[train]).statistics_[0]
    assert steps(folder)[1]["age"]["missing"] == pytest.approx(median)
    known = [*sorted(frame["city"].dropna().unique()), "none"]
    encoder = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(categories=[known]))
    wanted = with_sklearn(inputs.drop(columns="colour").astype({"city": object}), train, encoder)
    for part in PARTS:
        np.testing.assert_allclose(loaded(folder, part)[0][:, :7], wanted[rows(folder, part)], atol=1e-5)
    assert (
        "missing values filled (age 20, city 20): numbers with the median of train, categories as one of their own"
        in said[-1]
    )


def test_a_missing_category_is_nothing_where_the_model_is_that_narrow(tmp_path, standardised):
    frame = FRAME.copy()
    frame.loc[:9, "city"] = None
    folder, _ = filled(tmp_path, frame, model(8))
    wanted = pd.get_dummies(frame["city"]).to_numpy(np.float32)
    for part in PARTS:
        np.testing.assert_array_equal(loaded(folder, part)[0][:, 2:6], wanted[rows(folder, part)])


def prepared(frame, plain):
    """A table made inputs of by `preparation.json` alone, as a README says it."""
    x = np.zeros((len(frame), plain["columns"][-1]["values"][1]))
    for step in plain["columns"]:
        first, _ = step["values"]
        for row, value in enumerate(frame[step["column"]]):
            if step["kind"] == "category":
                place = step["missing"] if pd.isna(value) else step["categories"].index(str(value).strip())
                if step["coding"] == "ordinal":
                    x[row, first] = place
                elif place is not None:
                    x[row, first + place] = 1
            else:
                number = step["missing"] if pd.isna(value) else float(value)
                x[row, first] = (number - step["subtract"]) / step["divide"]
    return x


@pytest.mark.parametrize("width", [9, 8, 4])
def test_the_preparation_alone_is_enough_to_do_the_same(width, tmp_path):
    frame = FRAME.copy()
    frame.loc[3:11, ["age", "city"]] = None
    folder, _ = filled(tmp_path, frame, model(width))
    wanted = prepared(frame, steps(folder)[0])
    for part in PARTS:
        np.testing.assert_allclose(loaded(folder, part)[0], wanted[rows(folder, part)], atol=1e-5)


def centres(columns, y, classes=3):
    """A model that takes the class whose mean of these inputs is nearest."""
    means = np.stack([columns[y == label].mean(axis=0) for label in range(classes)])
    network = model(columns.shape[1], classes)
    network.layers[-1].set_weights([20 * means.T, -10 * np.square(means).sum(axis=1)])
    return network


SIZES = pd.DataFrame({f"size {i}": RNG.normal(50, 3, 300) for i in range(3)})
Y = RNG.integers(0, 3, 300)
for place in range(3):
    SIZES.loc[place == Y, f"size {place}"] += 30


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (lambda x: (x - x.mean(axis=0)) / x.std(axis=0), "standardised"),
        (lambda x: x, "as they are"),
    ],
)
def test_numbers_are_scaled_as_the_model_does_best(make, way, tmp_path):
    folder, said = filled(tmp_path, SIZES.assign(kind=Y), centres(make(SIZES.to_numpy()), Y))
    assert steps(folder)[0]["numbers"] == way
    assert f"numbers {way} (accuracy of 21" in said[-1]


def test_a_model_that_normalizes_itself_gets_numbers_as_they_are(tmp_path):
    x = SIZES.to_numpy()
    norm = layers.Normalization(mean=x.mean(axis=0), variance=x.var(axis=0), name="own")
    network = model(3, first=(norm,))
    network.layers[-1].set_weights(centres((x - x.mean(axis=0)) / x.std(axis=0), Y).layers[-1].get_weights())
    folder, said = filled(tmp_path, SIZES.assign(kind=Y), network)
    assert steps(folder)[0]["numbers"] == "as they are"
    assert "the model scales its inputs itself (own)" in said[-1]
    found = np.concatenate([loaded(folder, part)[0] for part in PARTS])
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(x.astype(np.float32), axis=0))


def test_pixels_in_columns_become_items_of_the_models_shape(tmp_path):
    y = np.arange(90) % 3
    x = np.clip(RNG.normal(np.array([40, 120, 210])[y, None], 20, (90, 16)), 0, 255).astype(int)
    shaped = model(0, shape=(4, 4, 1))
    shaped.layers[-1].set_weights(centres(x / 255, y).layers[-1].get_weights())
    frame = pd.DataFrame(x, columns=[f"pixel{i}" for i in range(16)]).assign(kind=y)
    folder, _ = filled(tmp_path, frame, shaped)
    assert loaded(folder, "train")[0].shape[1:] == (4, 4, 1)
    assert steps(folder)[0]["numbers"] == "x / 255"


def test_the_order_of_get_dummies_is_found(tmp_path):
    frame = pd.DataFrame({"town": np.array(["a", "b", "c"])[Y], "size": SIZES["size 0"]})
    dummies = pd.get_dummies(frame).to_numpy(float)
    folder, _ = filled(tmp_path, frame.assign(kind=Y), centres(dummies, Y))
    assert [step["column"] for step in steps(folder)[0]["columns"]] == ["size", "town"]


@pytest.mark.parametrize(
    ("labels", "network", "y", "names"),
    [
        (["b", "a", "c"], model(1), [1, 0, 2], ["a", "b", "c"]),
        ([3, 1, 2], model(1), [2, 0, 1], ["1", "2", "3"]),
        (["10", "9", "1"], model(1), [2, 1, 0], ["1", "9", "10"]),
        ([1.0, 0.0, 2.0], model(1), [1, 0, 2], None),
        ([0, 2, 0], model(1, 5), [0, 2, 0], None),
        (["no", "yes", "no"], model(1, 1, "sigmoid"), [0, 1, 0], ["no", "yes"]),
        ([True, False, True], model(1, 1, "sigmoid"), [1, 0, 1], ["false", "true"]),
        ([1, 2, 2], model(1, 1, "sigmoid"), [0, 1, 1], ["1", "2"]),
        ([1.5, -2.25, 7], line(), [1.5, -2.25, 7], None),
        ([1, 12, 9], line(), [1, 12, 9], None),
    ],
)
def test_labels_are_classes_or_values_as_the_outputs_ask(labels, network, y, names, tmp_path):
    frame = pd.DataFrame({"place": np.arange(60), "kind": np.tile(np.array(labels, dtype=object), 20)})
    folder, _ = filled(tmp_path, frame, network)
    for part in PARTS:
        np.testing.assert_allclose(loaded(folder, part)[1], np.tile(y, 20)[rows(folder, part)])
    found = folder / "class_names.json"
    assert (json.loads(found.read_text()) if found.exists() else None) == names


def test_rows_without_a_label_are_counted_and_left_out(tmp_path):
    frame = FRAME.copy()
    frame.loc[:6, "kind"] = None
    folder, said = filled(tmp_path, frame, model(8))
    assert "left out 7 of 120 rows, in which 'kind' is missing" in said[0]
    assert sorted(np.concatenate([rows(folder, part) for part in PARTS])) == list(range(7, N))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(delimiter, tmp_path):
    folder, _ = filled(tmp_path, FRAME, model(8), sep=delimiter, encoding="utf-8-sig")
    assert steps(folder)[0]["read"] == {"delimiter": delimiter, "decimal": "."}
    assert sorted(np.concatenate([rows(folder, part) for part in PARTS])) == list(range(N))


def test_a_comma_in_numbers_is_read_as_their_point(tmp_path, standardised):
    frame = FRAME.drop(columns=["city", "colour"])
    folder, _ = filled(tmp_path, frame, model(2), sep=";", decimal=",")
    wanted = with_sklearn(frame.drop(columns="kind"), rows(folder, "train"), None)
    np.testing.assert_allclose(loaded(folder, "test")[0], wanted[rows(folder, "test")], atol=1e-5)


def test_an_index_that_pandas_wrote_is_left_out_and_said(tmp_path):
    _, said = filled(tmp_path, FRAME, model(8), index=True)
    assert "left out column 1, which has no name" in said[0]


def test_a_long_table_is_read_in_pieces(tmp_path, monkeypatch):
    """A column of numbers whose last value is a text is one of categories; a truth is one wherever it stands."""
    monkeypatch.setattr(table_reading, "ROWS", 7)
    frame = FRAME.assign(code=[*(str(i % 5) for i in range(N - 1)), "x"], known=np.arange(N) % 3 == 0)
    folder, _ = filled(tmp_path, frame, model(8 + 6 + 1))
    _, found = steps(folder)
    assert found["code"]["categories"] == ["0", "1", "2", "3", "4", "x"]
    assert found["known"]["kind"] == "truth"
    wanted = prepared(frame.assign(known=frame["known"].astype(float)), steps(folder)[0])
    np.testing.assert_allclose(loaded(folder, "train")[0], wanted[rows(folder, "train")], atol=1e-5)


SHORT = "place,kind\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHORT.replace("kind", "Kind"), "no column 'kind' for the labels; did you mean 'Kind'"),
        (SHORT.replace("kind", "what"), "no column 'kind' for the labels; known: place, what"),
        (SHORT.replace("place,", "kind,"), "several columns are called 'kind'"),
        (SHORT.replace("place", "empty,place").replace("\n", "\n,").replace("\n,empty", "\nempty").removesuffix("\n,"), "column 'empty': all values are missing"),
        (SHORT.replace("b\n", "a\n"), r"column 'kind': one class only \(a\)"),
        (SHORT.replace("a\n", "c\n", 1), "3 classes .* but the model has 2 outputs; expected as many"),
        ("when,kind\n2024-03-01,a\n2024-04-01,b\n", "column 'when': holds dates or times; make numbers of them"),
        ("when,kind\n01.03.2024 10:30,a\n,b\n1.4.2024 9:05,b\n", "column 'when': holds dates or times"),
        ("when,kind\n3 Mar 2024,a\n11 May 2023,b\n", "column 'when': holds dates or times"),
        ("place,kind\n1,a\n2,b,c\n3,a\n", "not a table .*Expected 2 fields in line 3, saw 3"),
        ("place,kind\n1,a,x\n2,b,x\n", "rows have more cells than the 2 names in the first row"),
        ('place,kind\n1,"a\n2,b\n', "expected a row of names and rows of values|not a table"),
        ("place\n1\n2\n", "found one column .*; expected several, with one of comma, semicolon, tab, bar between"),
        ("1,2\n3,4\n", "the first row holds numbers; expected the names of the columns"),
        ("place,kind\n", "expected a row of names and rows of values, got 1 rows"),
        ("place,kind\ninf,a\n2,b\n", "column 'place': holds infinity"),
        ("place,kind\n1e300,a\n2,b\n", "column 'place': holds infinity, or numbers over 1e\\+37; scale it"),
        ("kind,\na,1\nb,2\n", "has no other columns than 'kind'"),
        ("place,kind\n1,a\n2,b\n", "2 items are too few to split a validation set off; give more rows"),
        ("place,other,kind\n" + "1,x,a\n2,y,b\n" * 20, r"its columns become 3 values an item \(other 2, place 1\), or 2 with a category as its index, but the model takes 1; its columns of numbers alone"),
        (b"place,kind\n1,caf\xe9\n", r"not UTF-8 \(byte 0xe9\); save it as UTF-8"),
        (SHORT.encode("utf-16"), r"not UTF-8 \(byte 0xff\)"),
        (b"", "is empty"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_clear_line(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as refused:
        filled(tmp_path, text, model(1, 2))
    assert str(refused.value).startswith(str(tmp_path / "table.csv"))
    assert "\n" not in str(refused.value)


def test_free_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table_columns, "MOST", 30)
    frame = FRAME.assign(note=[f"note {i}" for i in range(N)])
    with pytest.raises(ConfigError, match="column 'note': more than 30 different texts, such as 'note 0': free text"):
        filled(tmp_path, frame, model(8))


@pytest.mark.parametrize(
    ("labels", "network", "message"),
    [
        ([1.5, 2.5, 7], model(1), "expected classes, because the model has 3 outputs, got numbers with fractions from 1.5 to 7"),
        (["a", "b", "c"], model(1, 1, "sigmoid"), "3 classes .* the model has 1 outputs; expected 2, for a yes or no"),
        ([None, None, None], model(1), "all values are missing"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_the_outputs_are_refused(labels, network, message, tmp_path):
    frame = pd.DataFrame({"place": np.arange(60), "kind": np.tile(np.array(labels, dtype=object), 20)})
    with pytest.raises(ConfigError, match=rf"column 'kind': {message}"):
        filled(tmp_path, frame, network)


@pytest.mark.parametrize("name", ["table.xlsx", "table", "table.csv.gz"])
def test_other_kinds_of_files_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a table whose name ends in one of \.csv, \.tsv, \.txt, \.parquet"):
        filled(tmp_path, SHORT, model(1, 2), name=name)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'autoopt\[parquet\]', or save the table as \.csv"):
        filled(tmp_path, SHORT, model(1, 2), name="table.parquet")


def test_parquet_is_read_as_the_same_table(tmp_path):
    pytest.importorskip("pyarrow")
    frame = FRAME.assign(known=np.arange(N) % 3 == 0)
    frame.loc[3:5, "age"] = np.nan
    for kind in ("csv", "parquet"):
        (tmp_path / kind).mkdir()
    frame.to_parquet(tmp_path / "parquet" / "table.parquet")
    folder, _ = filled(tmp_path / "parquet", None, model(9), name="table.parquet")
    other, _ = filled(tmp_path / "csv", frame, model(9))
    for part in PARTS:
        np.testing.assert_array_equal(loaded(folder, part)[0], loaded(other, part)[0])


def test_the_study_loads_and_the_command_says_what_it_did(tmp_path):
    network = centres(SIZES.to_numpy(), Y)
    network.save(tmp_path / "model.keras")
    SIZES.assign(kind=np.array(["a", "b", "c"])[Y]).to_csv(tmp_path / "table.csv", index=False)
    given = ["init", "study", "--model", "model.keras", "--table", "table.csv", "--label", "kind"]
    done = CliRunner().invoke(main, [str(tmp_path / a) if i in (1, 3, 5) else a for i, a in enumerate(given)])
    assert done.exit_code == 0, done.stderr
    assert "numbers as they are" in done.stderr
    task = tasks.load(tmp_path / "study" / "task.py")
    assert (task.class_names, task.metric) == (("a", "b", "c"), "accuracy")
    x, y = task.train
    assert (network.predict(np.asarray(x), verbose=0).argmax(axis=1) == y).all()


def test_values_are_measured_by_their_error(tmp_path):
    model(3, 1, None).save(tmp_path / "model.keras")
    SIZES.assign(price=SIZES.sum(axis=1) / 7).to_csv(tmp_path / "table.csv", index=False)
    data = TableFile(path=tmp_path / "table.csv", label="price")
    init.create(tmp_path / "study", tmp_path / "model.keras", data, "smoke", 7, lambda text: None)
    assert tasks.load(tmp_path / "study" / "task.py").metric == "mae"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)), st.integers(-1, 3)), min_size=4, max_size=30),
    st.sampled_from(table_encoding.CODINGS),
    st.sampled_from(["standardised", "as they are"]),
)
def test_every_row_gets_finite_values_and_one_category_at_most(cells, coding, scaling):
    numbers, codes = (np.array(column) for column in zip(*cells, strict=True))
    columns = [
        Column(name="number", kind="number", values=numbers.astype(float)),
        Column(name="town", kind="category", values=codes.astype(np.int32), categories=("a", "b", "c", "d")),
    ]
    way = table_encoding.Way(scaling=scaling, order=(1, 0), label="")
    encoder = table_encoding.learn(columns, np.arange(3), coding, way)
    x = encoder.encode(columns)
    assert x.shape == (len(cells), sum(coding.width(column) for column in columns))
    assert np.isfinite(x).all()
    if coding.name == "one-hot":
        own = coding.missing and (codes < 0).any()
        assert (x[:, :-1].sum(axis=1) == np.where(codes < 0, int(own), 1)).all()
    else:
        assert set(x[:, 0]) <= set(range(5))
