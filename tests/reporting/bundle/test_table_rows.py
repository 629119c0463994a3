"""Rows of a person's own table in predict.py: prepared as the arrays were that the model was trained on."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from autoopt.api import table_columns, table_encoding, table_reading
from autoopt.reporting.bundle import own_files, telling
from autoopt.reporting.bundle.own_files import BadInput
from autoopt.reporting.bundle.table_rows import MISSING, prepared_rows

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": [31.5, 22, None, 48, 60, 19],
        "town, country": ["Ulm", " Bonn", "Ulm", None, "Köln", "Bonn "],
        "member": ["true", "False", None, "true", "TRUE", "false"],
        "rank": ["a", "b", "a", "b", "c", "a"],
    }
)


def written(path, frame=FRAME, **how):
    frame.to_csv(path, index=False, **how)
    return path


def told(path, coding=table_encoding.CODINGS[0], scaling=table_encoding.STANDARDISED):
    """What `preparation.json` says of a table, and the inputs that were made of it."""
    table = table_reading.open_table(path)
    columns = table_columns.read(table, path)
    way = next(way for way in table_encoding.ways(columns) if way.scaling == scaling)
    encoder = table_encoding.learn(columns, np.arange(len(columns[0].values)), coding, way)
    plain = json.loads(json.dumps({"kind": "table", "read": table.how, "columns": encoder.steps}))
    return plain, encoder.encode(columns)


@pytest.mark.parametrize("coding", table_encoding.CODINGS, ids=["one-hot", "no missing", "ordinal"])
@pytest.mark.parametrize("how", [{}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"sep": "|"}], ids=str)
def test_they_become_what_the_first_tables_rows_became(coding, how, tmp_path):
    plain, wanted = told(written(tmp_path / "table.csv", **how), coding)
    found = prepared_rows(tmp_path / "table.csv", (wanted.shape[1],), plain)
    np.testing.assert_array_equal(found, wanted)
    mixed = FRAME.iloc[::-1, ::-1].assign(label=1)
    found = prepared_rows(written(tmp_path / "other.csv", mixed, **how), (wanted.shape[1], 1), plain)
    np.testing.assert_array_equal(found[..., 0], wanted[::-1])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6) | st.none(), st.sampled_from(["x", "y z", 'q"', "NA", "n,a"])), min_size=3)
)
def test_any_table_is_read_as_init_reads_it(rows):
    frame = pd.DataFrame(rows, columns=["number", "text"])
    if frame["number"].isna().all() or (frame["text"] == "NA").all():
        return
    with tempfile.TemporaryDirectory() as folder:
        plain, wanted = told(written(Path(folder) / "t.csv", frame))
        np.testing.assert_array_equal(prepared_rows(Path(folder) / "t.csv", wanted.shape[1:], plain), wanted)


def test_what_is_missing_is_what_pandas_takes_for_missing():
    assert MISSING == STR_NA_VALUES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,member,rank\n1,true,a\n", "rows.csv: no column 'town, country'; expected age, town, country, member, rank"),
        ('age,age,"town, country",member,rank\n1,1,Ulm,true,a\n', "rows.csv: several columns are called 'age'"),
        ('age,"town, country",member,rank\nold,Ulm,true,a\n', "rows.csv: line 2: column 'age': expected a number, got 'old'"),
        ('age,"town, country",member,rank\n1e999,Ulm,true,a\n', "rows.csv: line 2: column 'age': expected a number, got '1e999'"),
        ('age,"town, country",member,rank\n1,Ulm,yes,a\n', "rows.csv: line 2: column 'member': expected one of true, false, got 'yes'"),
        ('age,"town, country",member,rank\n1,Ulm,true,a,5\n', "rows.csv: line 2: more cells than the 4 names in the first row"),
        ("Ulm,a\n", "rows.csv: expected the columns' names in the first row: age, town, country, member, rank"),
        ("", "rows.csv: holds no items"),
    ],
)  # fmt: skip
def test_what_can_not_be_prepared_is_said_in_one_line(text, message, tmp_path):
    plain, wanted = told(written(tmp_path / "table.csv"))
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(BadInput) as caught:
        prepared_rows(tmp_path / "rows.csv", wanted.shape[1:], plain)
    assert str(caught.value).startswith(message)


def test_a_category_that_was_not_there_in_training_counts_as_none_with_a_word(tmp_path, capsys):
    plain, wanted = told(written(tmp_path / "table.csv"))
    strange = FRAME.assign(**{"town, country": ["Rom", "Oslo", "Ulm", None, "Ulm", "Ulm"]})
    found = prepared_rows(written(tmp_path / "rows.csv", strange), wanted.shape[1:], plain)
    first, last = plain["columns"][1]["values"]
    assert found[0, first:last].tolist() == found[3, first:last].tolist() == [0, 0, 0, 1]
    assert (
        "rows.csv: CAUTION: line 2: column 'town, country': 'Rom' was not there in training and counts as not given "
        "(as in 1 rows more)" in capsys.readouterr().out
    )
    ordinal, wanted = told(tmp_path / "table.csv", table_encoding.CODINGS[2])
    with pytest.raises(BadInput, match="column 'rank': expected one of a, b, c, got 'z'"):
        prepared_rows(written(tmp_path / "rows.csv", FRAME.assign(rank="z")), wanted.shape[1:], ordinal)


def test_numbers_without_names_are_inputs_already(tmp_path):
    plain, wanted = told(written(tmp_path / "table.csv"))
    np.savetxt(tmp_path / "rows.csv", wanted, delimiter=",")
    card = {"inputs": [{"name": "x", "shape": [1, wanted.shape[1]], "dtype": "float32", "scale": None}]}
    (tmp_path / "preparation.json").write_text(json.dumps(plain))
    [found], _ = own_files.arrays_of(card, [tmp_path / "rows.csv"], telling._preparing(tmp_path))
    np.testing.assert_allclose(found, wanted)
