"""Optimizers as recipes hold them: a name, or a name with arguments in one line of text, such as `sgd(momentum=0.5)`.

Text, for a recipe's values are plain ones: they can be hashed, sampled and shown.
"""

import re
from collections.abc import Mapping
from typing import Any

from autoopt.core.setting_values import expect_truth, number
from autoopt.core.validation import expect_keys, fail, nearest
from autoopt.errors import ConfigError

WHERE = "finetune.optimizer"
"""The setting that holds an optimizer."""
ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
ARGUMENTS: dict[str, dict[str, float | bool]] = {
    "adam": ADAM,
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adamw": ADAM,
    "rmsprop": {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
}
"""The optimizers and their own arguments, with Keras' defaults."""
USUAL = ARGUMENTS | {"sgd": {"momentum": 0.9, "nesterov": True}}
"""The arguments of an optimizer that is known by its name alone."""
ELSEWHERE = {
    "learning_rate": "finetune.learning_rate",
    "lr": "finetune.learning_rate",
    "weight_decay": "finetune.weight_decay",
    "global_clipnorm": "finetune.clip_norm",
    "clipnorm": "finetune.clip_norm",
    "use_ema": "finetune.averaging",
    "ema_momentum": "finetune.averaging",
}
"""Arguments of Keras' optimizers that are settings of their own, by name."""
_TEXT = re.compile(r"\s*(\w+)\s*\((.*)\)\s*")


def written(given: Any) -> Any:
    """An optimizer in the one way in which recipes hold it; what is neither text nor a mapping stays as it is.

    Args:
        given: a name (`sgd`), a mapping of the name and arguments (`{"name": "sgd", "momentum": 0.5}`), in which
            arguments that are not named have Keras' defaults, or what this function gave.

    Raises:
        ConfigError: for an optimizer or an argument that is not known, and values out of range.
    """
    if isinstance(given, str) and (found := _TEXT.fullmatch(given)):
        given = {"name": found[1], **_pairs(found[2])}
    if isinstance(given, str):
        _expect_known(given)
    if not isinstance(given, Mapping):
        return given
    if "name" not in given:
        raise ConfigError(f"{WHERE}: name: missing; expected one of {', '.join(ARGUMENTS)}")
    name, values = given["name"], {key: value for key, value in given.items() if key != "name"}
    _expect_known(name)
    for key in values:
        if key in ELSEWHERE:
            raise ConfigError(f"{WHERE}: {key} is a setting of its own: {ELSEWHERE[key]}")
    expect_keys(WHERE, values, ARGUMENTS[name])
    return _text(name, ARGUMENTS[name] | {key: _checked(key, value) for key, value in values.items()})


def arguments(text: str) -> tuple[str, dict[str, float | bool]]:
    """Name and arguments, as Keras takes them, of what `written` gave."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return text, dict(USUAL[text])
    return found[1], ARGUMENTS[found[1]] | {key: _checked(key, value) for key, value in _pairs(found[2]).items()}


def _expect_known(name: object) -> None:
    if not isinstance(name, str):
        fail(f"{WHERE}: name", f"one of {', '.join(ARGUMENTS)}", name)
    if name not in ARGUMENTS:
        raise ConfigError(f"{WHERE}: unknown optimizer {name!r}; {nearest(name, ARGUMENTS)}")


def _text(name: str, values: Mapping[str, float | bool]) -> str:
    if values == USUAL[name]:
        return name
    telling = {key: value for key, value in values.items() if value != ARGUMENTS[name][key]}
    shown = telling or {key: values[key] for key in list(values)[:1]}  # all as in Keras, which is not our usual
    return f"{name}({','.join(f'{key}={_word(value)}' for key, value in shown.items())})"


def _word(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.10g}"


def _pairs(text: str) -> dict[str, Any]:
    """The arguments that stand between the brackets."""
    found: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            fail(WHERE, "arguments such as momentum=0.5", pair)
        found[key] = {"true": True, "false": False}.get(value.lower(), value)
    return found


def _checked(key: str, value: Any) -> float | bool:
    """An argument's value, read from text too."""
    where = f"{WHERE}: {key}"
    if key in ("amsgrad", "nesterov", "centered"):
        expect_truth(where, value)
        return bool(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            fail(where, "a number", value)
    checked = float(f"{number(where, value):.10g}")
    low, high = (checked > 0, checked < 1) if key == "epsilon" else (checked >= 0, checked < 1)
    if not (low and high):
        fail(where, "a number in (0, 1)" if key == "epsilon" else "a number in [0, 1)", value)
    return checked
