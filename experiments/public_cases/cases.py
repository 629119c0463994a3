"""Small models and data in the situation of public bug reports, with the metric computed by scikit-learn alone.

Each function of `CASES` gives a trained Keras model or the path of a saved one, data, and how well outputs do. No code
of the reports is used: they tell the kind of model and task only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from sklearn import metrics
from sklearn.datasets import load_digits

RNG = np.random.default_rng(0)
DIGITS = load_digits()
X8 = (DIGITS.images / 16).astype(np.float32)[..., None]
Y = DIGITS.target.astype(np.int64)
ORDER = RNG.permutation(len(Y))
X8, Y = X8[ORDER][:900], Y[ORDER][:900]
X16 = X8.repeat(2, 1).repeat(2, 2)
RGB16 = X16.repeat(3, -1)
L, L2 = keras.layers, tf_keras.layers


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model with its data.

    Attributes:
        model: a Keras model, or what saves one: a function of a folder that gives the path.
        x: shape (items, ...).
        y: shape (items, ...).
        metric: the name that autoopt is expected to choose.
        score: of labels and outputs, by scikit-learn; None where the model is expected to be refused.
        refused: what the line says that refuses the case, or ``.
    """

    model: Any
    x: np.ndarray
    y: np.ndarray
    metric: str = "accuracy"
    score: Callable[[np.ndarray, np.ndarray], float] | None = None
    refused: str = ""


CASES: dict[str, tuple[str, Callable[[], Case]]] = {}
"""By name: the public report that it is made after (or `ours`), and what builds it."""


def case(source: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def add(build: Callable[[], Case]) -> Callable[[], Case]:
        CASES[build.__name__.replace("_", " ")] = (source, build)
        return build

    return add


def best(y: np.ndarray, p: np.ndarray) -> float:
    return float(metrics.accuracy_score(y.ravel(), p.reshape(-1, p.shape[-1]).argmax(axis=-1)))


def over(threshold: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda y, p: float(metrics.accuracy_score(y.ravel(), p.ravel() > threshold))


def mae(y: np.ndarray, p: np.ndarray) -> float:
    return float(metrics.mean_absolute_error(y.ravel(), p.ravel()))


def fit(
    model: Any, x: np.ndarray, y: np.ndarray, loss: Any, *, epochs: int = 5, rate: float = 3e-3, **options: Any
) -> Any:
    """Train on the first two thirds, so that validation and test are new to the model."""
    library = keras if isinstance(model, keras.Model) else tf_keras
    library.utils.set_random_seed(0)
    model.compile(library.optimizers.Adam(rate), loss)
    n = 2 * len(x) // 3
    model.fit(x[:n], y[:n], epochs=epochs, batch_size=32, verbose=0, **options)
    return model


def stack(*layers: Any, shape: tuple[int, ...] = (8, 8, 1), dtype: str = "float32") -> Any:
    library = keras if isinstance(layers[0], keras.layers.Layer) else tf_keras
    return library.Sequential([library.Input(shape, dtype=dtype), *layers])


def sparse(model: Any, x: np.ndarray = X8, y: np.ndarray = Y, **options: Any) -> Case:
    return Case(model=fit(model, x, y, "sparse_categorical_crossentropy", **options), x=x, y=y, score=best)


# --- labels of more than one value an item


def unet(last: int, activation: str | None) -> Any:
    inputs = keras.Input((16, 16, 1))
    a = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    b = L.Conv2D(16, 3, padding="same", activation="relu")(L.MaxPooling2D()(a))
    up = L.Concatenate()([L.Conv2DTranspose(8, 2, strides=2, padding="same")(b), a])
    return keras.Model(
        inputs, L.Conv2D(last, 1, activation=activation)(L.Conv2D(8, 3, padding="same", activation="relu")(up))
    )


NOISY = np.clip(X16 + RNG.normal(0, 0.15, X16.shape), 0, 1).astype(np.float32)[:450]
AREAS = np.digitize(X16[:450, ..., 0], [0.3, 0.7]).astype(np.uint8)
MASK = (X16[:450] > 0.5).astype(np.uint8)


@case("tensorflow/tensorflow#59879")
def segmentation_of_three_classes() -> Case:
    return sparse(unet(3, "softmax"), NOISY, AREAS)


@case("STMicroelectronics/stm32ai-modelzoo-services#22")
def segmentation_by_logits() -> Case:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(model=fit(unet(3, None), NOISY, AREAS, loss), x=NOISY, y=AREAS, score=best)


@case("tkuanlun350/Tensorflow-SegNet#20")
def a_mask_by_sigmoids() -> Case:
    return Case(model=fit(unet(1, "sigmoid"), NOISY, MASK, "binary_crossentropy"), x=NOISY, y=MASK, score=over(0.5))


@case("ours: a mask as an image file has it")
def a_mask_of_0_and_255() -> Case:
    model = fit(unet(1, "sigmoid"), NOISY, MASK, "binary_crossentropy", epochs=1)
    return Case(model=model, x=NOISY, y=MASK * 255, refused="got 0 and 255")


TAGS = np.stack([Y % 2 == 0, Y > 4, Y % 3 == 0, np.isin(Y, [0, 6, 8, 9]), Y < 3, Y == 7], 1).astype(np.int64)


@case("tensorflow/tensorflow#41114")
def several_labels_by_sigmoids() -> Case:
    model = stack(
        L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(32, activation="relu"), L.Dense(6, activation="sigmoid")
    )
    return Case(model=fit(model, X8, TAGS, "binary_crossentropy"), x=X8, y=TAGS, score=over(0.5))


@case("ours: the same by logits")
def several_labels_by_logits() -> Case:
    model = stack(L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(32, activation="relu"), L.Dense(6))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return Case(model=fit(model, X8, TAGS, loss), x=X8, y=TAGS, score=over(0.0))


WORDS = RNG.integers(1, 30, (600, 10))
NEXT = (WORDS + np.roll(WORDS, 1, 1)) % 3


@case("keras-team/keras#568")
def tagging_by_time_distributed_softmax() -> Case:
    inputs = keras.Input((10,), dtype="int32")
    x = L.Conv1D(32, 3, padding="same", activation="relu")(L.Embedding(30, 16)(inputs))
    return sparse(
        keras.Model(inputs, L.TimeDistributed(L.Dense(3, activation="softmax"))(x)), WORDS, NEXT, epochs=15, rate=1e-2
    )


@case("keras-team/keras#1889")
def tagging_by_a_separate_activation() -> Case:
    inputs = keras.Input((10,), dtype="int32")
    x = L.Dense(3)(L.Conv1D(16, 3, padding="same", activation="relu")(L.Embedding(30, 16)(inputs)))
    return sparse(keras.Model(inputs, L.Activation("softmax")(x)), WORDS, NEXT, epochs=15, rate=1e-2)


# --- values


FEATURES = RNG.normal(size=(700, 10)).astype(np.float32)
SUM = FEATURES @ RNG.normal(size=10) / 3
AGES = np.clip(np.round(45 + 15 * SUM), 0, 95).astype(np.int64)


def regressor() -> Any:
    return stack(L.Dense(32, activation="relu"), L.Dense(32, activation="relu"), L.Dense(1), shape=(10,))


@case("tensorflow/tensorflow#58206")
def whole_numbers_as_values() -> Case:
    return Case(model=fit(regressor(), FEATURES, AGES, "mse", epochs=40), x=FEATURES, y=AGES, metric="mae", score=mae)


@case("tensorflow/tensorflow#59684")
def large_values_in_one_axis() -> Case:
    prices = (200_000 + 60_000 * SUM).astype(np.float32)
    return Case(
        model=fit(regressor(), FEATURES, prices, "mae", epochs=60, rate=0.05),
        x=FEATURES,
        y=prices,
        metric="mae",
        score=mae,
    )


@case("tensorflow/tensorflow#47068")
def an_autoencoder() -> Case:
    model = stack(
        L.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu"),
        L.Conv2D(1, 3, padding="same"),
    )
    return Case(model=fit(model, X8, X8, "mse"), x=X8, y=X8, metric="mae", score=mae)


@case("tensorflow/model-optimization#771")
def image_compression_by_transposed_convolutions() -> Case:
    model = stack(
        L2.Conv2D(8, 4, strides=2, padding="same"),
        L2.Conv2D(12, 4, strides=2, padding="same"),
        L2.Conv2DTranspose(16, 4, strides=2, padding="same"),
        L2.Conv2DTranspose(1, 4, strides=2, padding="same"),
    )
    return Case(model=fit(model, X8, X8, "mse"), x=X8, y=X8, metric="mae", score=mae)


# --- a yes or no


THREE = (Y == 3).astype(np.int64)


def decider(activation: str | None) -> Any:
    return stack(
        L.Conv2D(8, 3, activation="relu"),
        L.Flatten(),
        L.Dense(16, activation="relu"),
        L.Dense(1, activation=activation),
    )


@case("tensorflow/tensorflow#26900")
def a_rare_yes_by_a_sigmoid() -> Case:
    model = fit(decider("sigmoid"), X8, THREE, "binary_crossentropy", class_weight={0: 1.0, 1: 9.0})
    return Case(model=model, x=X8, y=THREE, score=over(0.5))


@case("ours: the same by a logit")
def a_yes_by_a_logit() -> Case:
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return Case(model=fit(decider(None), X8, THREE, loss), x=X8, y=THREE[:, None], score=over(0.0))


@case("ours: labels of a support vector machine")
def a_yes_of_1_and_no_of_minus_1() -> Case:
    return Case(
        model=fit(decider("sigmoid"), X8, THREE, "binary_crossentropy", epochs=1),
        x=X8,
        y=THREE * 2 - 1,
        refused="got -1 and 1",
    )


@case("ours: classes that are counted from 1")
def classes_from_1() -> Case:
    model = fit(
        stack(L.Flatten(), L.Dense(10, activation="softmax")), X8, Y, "sparse_categorical_crossentropy", epochs=1
    )
    return Case(model=model, x=X8, y=Y + 1, refused="subtract 1")


# --- models as people have them


@case("keras-team/keras#16189")
def augmentation_inside_the_model() -> Case:
    augment = keras.Sequential(
        [L.RandomFlip("horizontal"), L.RandomRotation(0.05), L.RandomZoom(0.1)], name="augmentation"
    )
    inputs = keras.Input((16, 16, 3))
    x = L.Rescaling(1 / 127.5, -1)(augment(inputs))
    x = L.GlobalAveragePooling2D()(L.Conv2D(32, 3, activation="relu")(L.Conv2D(16, 3, activation="relu")(x)))
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(L.Dropout(0.2)(x)))
    return sparse(model, RGB16 * 255, Y, epochs=8)


@case("keras-team/autokeras#1524")
def random_translation_before_separable_convolutions() -> Case:
    model = stack(
        L.RandomTranslation(0.1, 0.1),
        L.RandomFlip(),
        L.SeparableConv2D(32, 3, activation="relu"),
        L.SeparableConv2D(16, 3, activation="relu"),
        L.Flatten(),
        L.Dense(1),
    )
    values = X8.mean(axis=(1, 2, 3)) * 10
    return Case(model=fit(model, X8, values, "mse"), x=X8, y=values, metric="mae", score=mae)


@case("tensorflow/community#336")
def a_frozen_backbone_with_dropout() -> Case:
    backbone = keras.Sequential(
        [keras.Input((16, 16, 3)), L.Conv2D(16, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(),
         L.Conv2D(32, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D()], name="backbone",
    )  # fmt: skip
    fit(
        keras.Sequential([backbone, L.Dense(10, activation="softmax")]),
        RGB16,
        Y,
        "sparse_categorical_crossentropy",
        epochs=6,
    )
    backbone.trainable = False
    inputs = keras.Input((16, 16, 3))
    x = L.Dropout(0.5)(L.Dense(64, activation="relu")(backbone(inputs, training=False)))
    return sparse(keras.Model(inputs, L.Dense(10, activation="softmax")(x)), RGB16, Y)


@case("keras-team/keras#16889")
def a_frozen_nested_backbone_of_keras_2() -> Case:
    backbone = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            L2.Conv2D(16, 3, use_bias=False),
            L2.BatchNormalization(),
            L2.ReLU(),
            L2.GlobalAveragePooling2D(),
        ]
    )
    fit(tf_keras.Sequential([backbone, L2.Dense(10, activation="softmax")]), X8, Y, "sparse_categorical_crossentropy")
    backbone.trainable = False
    return sparse(
        tf_keras.Sequential(
            [tf_keras.Input((8, 8, 1)), backbone, L2.Dense(32, activation="relu"), L2.Dense(10, activation="softmax")]
        )
    )


@case("tensorflow/model-optimization#362")
def convolutions_of_one_axis() -> Case:
    x = X8[..., 0]
    return sparse(
        stack(
            L.Conv1D(16, 3, activation="relu"),
            L.Conv1D(16, 3, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
            shape=(8, 8),
        ),
        x,
        Y,
    )


@case("google-coral/edgetpu#212")
def separable_convolutions_of_one_axis() -> Case:
    x = X8[..., 0]
    return sparse(
        stack(L.Conv1D(16, 3, padding="same", activation="relu"), L.SeparableConv1D(24, 3, padding="same", activation="relu"), L.BatchNormalization(), L.Flatten(), L.Dense(10, activation="softmax"), shape=(8, 8)),
        x, Y,
    )  # fmt: skip


@case("tensorflow/model-optimization#602")
def upsampling() -> Case:
    model = stack(
        L2.Conv2D(8, 3, padding="same", activation="relu"), L2.MaxPooling2D(), L2.UpSampling2D(), L2.Conv2D(8, 3, activation="relu"),
        L2.Flatten(), L2.Dense(10, activation="softmax"),
    )  # fmt: skip
    return sparse(model)


@case("tensorflow/tensorflow#43939")
def normalization_after_a_transposed_convolution() -> Case:
    model = stack(
        L2.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        L2.Conv2DTranspose(8, 3, strides=2, padding="same", use_bias=False),
        L2.BatchNormalization(),
        L2.ReLU(),
        L2.Conv2D(3, 1, activation="softmax"),
        shape=(16, 16, 1),
    )
    return sparse(model, NOISY, AREAS)


@case("tensorflow/model-optimization#1132")
def depthwise_convolutions() -> Case:
    model = stack(
        L2.Conv2D(8, 3, padding="same"), L2.PReLU(shared_axes=[1, 2]), L2.DepthwiseConv2D(3, depth_multiplier=2), L2.LeakyReLU(0.2),
        L2.Conv2D(16, 1), L2.BatchNormalization(), L2.ELU(), L2.GlobalMaxPooling2D(), L2.Dense(10), L2.Softmax(),
    )  # fmt: skip
    return sparse(model, epochs=8)


@case("tensorflow/tensorflow#33588")
def a_mean_over_pixels() -> Case:
    return sparse(
        stack(
            L.Conv2D(32, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(32, activation="relu"),
            L.Dense(10, activation="softmax"),
        ),
        epochs=10,
    )


@case("tensorflow/tensorflow#25170")
def normalization_in_a_residual_net() -> Case:
    inputs = keras.Input((8, 8, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False)(inputs)))
    y = L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False)(x))
    return sparse(
        keras.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([x, y]))))),
        epochs=8,
    )


@case("tensorflow/tensorflow#21921")
def a_table_of_features() -> Case:
    x = X8.reshape(len(X8), 64)
    return sparse(
        stack(
            L.Normalization(mean=0.3, variance=0.15),
            L.Dense(32, activation="relu"),
            L.Dense(10, activation="softmax"),
            shape=(64,),
        ),
        x,
        Y,
    )


@case("tensorflow/tensorflow#61796")
def attention() -> Case:
    inputs = keras.Input((8, 8))
    x = L.Dense(16)(inputs)
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 8)(x, x)]))
    return sparse(
        keras.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling1D()(x))), X8[..., 0], Y, epochs=12
    )


@case("tensorflow/model-optimization#1051")
def operators_between_layers() -> Case:
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(16, 3, activation="relu")(inputs * 2.0 - 1.0)
    x = keras.ops.maximum(x, 0.1) + np.full((16,), 0.25, np.float32)
    return sparse(keras.Model(inputs, L.Dense(10, activation="softmax")(L.Flatten()(x))))


# --- sequences


LENGTHS = RNG.integers(3, 11, 600)
SEQUENCE = RNG.normal(size=(600, 10, 4)).astype(np.float32)
FIRST = np.array([SEQUENCE[i, :n, :3].mean(axis=0).argmax() for i, n in enumerate(LENGTHS)])
for item, length in enumerate(LENGTHS):
    SEQUENCE[item, length:] = -10


@case("tensorflow/tensorflow#38935")
def a_masked_bidirectional_lstm() -> Case:
    model = stack(L.Masking(-10.0), L.Bidirectional(L.LSTM(8)), L.Dense(3, activation="softmax"), shape=(10, 4))
    return sparse(model, SEQUENCE, FIRST, epochs=8, rate=1e-2)


@case("tensorflow/tensorflow#76672")
def a_gru() -> Case:
    return sparse(
        stack(L.GRU(12), L.Dense(3, activation="softmax"), shape=(10, 4)), SEQUENCE, FIRST, epochs=8, rate=1e-2
    )


@case("ours: tokens of which some are padding")
def an_embedding_with_a_mask() -> Case:
    words = np.where(np.arange(10) < LENGTHS[:, None], WORDS, 0)
    good = np.array([(words[i, :n] < 15).mean() > 0.5 for i, n in enumerate(LENGTHS)]).astype(np.int64)
    model = stack(
        L.Embedding(30, 8, mask_zero=True),
        L.GlobalAveragePooling1D(),
        L.Dense(8, activation="relu"),
        L.Dense(1, activation="sigmoid"),
        shape=(10,),
        dtype="int32",
    )
    return Case(
        model=fit(model, words, good, "binary_crossentropy", epochs=10, rate=1e-2), x=words, y=good, score=over(0.5)
    )


# --- models without layers


class Own(keras.Model):
    """A subclassed model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = [L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(10, activation="softmax")]

    def call(self, x: Any) -> Any:
        """What the layers make of it, one after the other."""
        for layer in self.inner:
            x = layer(x)
        return x


@case("tensorflow/model-optimization#1172")
def a_subclassed_model() -> Case:
    model = fit(Own(), X8, Y, "sparse_categorical_crossentropy")

    def save(folder: Path) -> Path:
        model.export(folder / "model", verbose=False)
        return folder / "model"

    return Case(model=(model, save), x=X8, y=Y, score=best)


@case("ours: a tf.Module of two signatures")
def a_saved_model_of_two_signatures() -> Case:
    class Two(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = (tf.Variable(RNG.normal(size=(10, n)).astype(np.float32)) for n in (3, 2))

        @tf.function(input_signature=[tf.TensorSpec([None, 10], tf.float32, name="x")])
        def classify(self, x: Any) -> Any:
            return {"probs": tf.nn.softmax(x @ self.w)}

        @tf.function(input_signature=[tf.TensorSpec([None, 10], tf.float32, name="x")])
        def embed(self, x: Any) -> Any:
            return {"emb": x @ self.v}

    made = Two()

    def save(folder: Path) -> Path:
        signatures = {"serving_default": made.classify, "embed": made.embed}
        tf.saved_model.save(made, str(folder / "model"), signatures=signatures)
        return folder / "model"

    labels = (FEATURES @ made.w.numpy()).argmax(axis=1)
    labels[::9] = (labels[::9] + 1) % 3
    predict = lambda x: made.classify(tf.constant(x))["probs"].numpy()  # noqa: E731
    return Case(model=(predict, save), x=FEATURES, y=labels, score=best)


@case("ours: a layer whose class is not registered")
def a_layer_of_ones_own() -> Case:
    class Scale(L.Layer):
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, x: Any) -> Any:
            return x * self.factor

    model = fit(
        stack(L.Conv2D(8, 3, activation="relu"), Scale(), L.Flatten(), L.Dense(10, activation="softmax")),
        X8,
        Y,
        "sparse_categorical_crossentropy",
        epochs=1,
    )
    return Case(model=model, x=X8, y=Y, refused="Scale")
