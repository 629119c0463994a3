"""Schemes: how the weights and activations of a `.tflite` may be stored."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How weights and activations are stored in the `.tflite`.

    Attributes:
        label: for people.
        integer: weights and activations are integers, so a calibration set is needed.
        io: dtype of the file's inputs and outputs: integers, too, or float32 whatever it computes in.
        qat: the model is trained with quantization in the loop first.
    """

    label: str
    integer: bool = False
    io: str = "float32"
    qat: bool = False

    @property
    def integer_io(self) -> bool:
        """Whether integers go in and come out."""
        return self.io != "float32"


SCHEMES: dict[str, Scheme] = {
    "float32": Scheme(label="float32"),
    "float16": Scheme(label="float16 weights"),
    "dynamic": Scheme(label="dynamic int8"),
    "int8": Scheme(label="int8", integer=True),
    "int8_io": Scheme(label="int8 (int8 in/out)", integer=True, io="int8"),
    "uint8_io": Scheme(label="int8 (uint8 in/out)", integer=True, io="uint8"),
    "int16x8": Scheme(label="int16x8", integer=True),
    "qat_int8": Scheme(label="QAT int8", integer=True, qat=True),
    "qat_int8_io": Scheme(label="QAT int8 (int8 in/out)", integer=True, io="int8", qat=True),
    "qat_uint8_io": Scheme(label="QAT int8 (uint8 in/out)", integer=True, io="uint8", qat=True),
}

BY_RANGES = ("int8", "int8_io", "uint8_io")
"""Schemes that `Quantize` applies to: post-training ones with ranges from the calibration set."""
BY_BITS = (*BY_RANGES, "dynamic")
"""Schemes whose weights may have 4 bits."""
AFTER_TRAINING = {"qat_int8": "int8", "qat_int8_io": "int8_io", "qat_uint8_io": "uint8_io"}
"""The post-training scheme that stores a model as a quantization-aware one does."""
