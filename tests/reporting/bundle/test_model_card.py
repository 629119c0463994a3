"""The header that the Hugging Face Hub reads, and that it says of the model what the card says."""

import nights
import pytest
import yaml

from autoopt.reporting.bundle.card import make_card
from autoopt.reporting.bundle.model_card import model_card


def made(results):
    card = make_card(results, results.pick().candidate) | {"meaning": [{"kind": "classes", "values": "probabilities"}]}
    return card, model_card(card, "# A model\n")


def test_the_header_says_what_the_card_says():
    card, text = made(nights.realistic())
    _, header, body = text.split("---\n")
    assert body == "\n# A model\n"
    told = yaml.safe_load(header)
    assert told["library_name"] == "tflite"
    assert {"tflite", "weight-clustering", "quantized", "int8-io"} <= set(told["tags"])
    (result,) = told["model-index"][0]["results"]
    assert result["task"] == {"type": "classification"}
    assert result["metrics"][0]["value"] == card["metrics"]["accuracy"]["value"]
    assert "validation" in result["dataset"]["name"]


def test_hostile_names_stay_texts():
    results = nights.hostile()
    card = make_card(results, results.candidates[1]) | {"study": "x: [\n---\n- y"}
    told = yaml.safe_load(model_card(card, "").removeprefix("---\n").rpartition("---\n")[0])
    assert told["model-index"][0]["name"] == "x: [\n---\n- y-1"


def test_the_hub_s_own_library_reads_it():
    hub = pytest.importorskip("huggingface_hub")
    card, text = made(nights.realistic())
    found = hub.ModelCard(text)
    assert found.data.library_name == "tflite"
    assert found.data.eval_results[0].metric_value == card["metrics"]["accuracy"]["value"]
    assert found.data.model_name == f"resnet8-{card['candidate']}"
