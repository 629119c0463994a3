"""How stages fine-tune: the settings that all of them share."""

from dataclasses import dataclass, fields

from autoopt.core import meaning, optimizers
from autoopt.core.meaning import Milder, percent, setting, yes_or_no
from autoopt.core.setting_values import expect_heard, expect_one_of, expect_truth, number, rounded
from autoopt.core.validation import expect_number, fail

FROZEN = ("train", "keep")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finetune:
    """How each stage trains.

    Attributes:
        epochs: passes over the training data, 1 or more.
        learning_rate: the peak; it decays to zero along a cosine.
        batch_size: items per step.
        distillation: weight, in [0, 1], of being like the untouched model, or the teacher that the task gives, beside being
            right (Hinton et al. 2015).
        temperature: softens what is compared then, over 0; without distillation any value given is replaced.
        averaging: decay, in [0, 1), of the moving average of weights that the stage ends with (Polyak); 0 for none.
        recalibrate: batch normalization's statistics are estimated anew, with the weights that the stage ends with.
        frozen: layers that the user froze (`trainable=False`) are compressed and trained like any other, but for batch
            normalization, which stays as it is (`train`); or neither compressed, other than quantized, nor trained (`keep`).
        optimizer: `adam`, `sgd` (momentum 0.9, Nesterov's), `adamw` or `rmsprop`; or a mapping with its own arguments, such
            as `{name: sgd, momentum: 0.5}`, in which those that are not named have Keras' defaults.
        weight_decay: what each step takes of every weight, times the learning rate (decoupled, Loshchilov and Hutter 2019),
            in [0, 1); 0 for none, but Keras' own 0.004 with `adamw`.
        warmup: share of the steps, in [0, 1), in which the learning rate rises from zero to its peak.
        clip_norm: the norm of all gradients together is clipped to this; 0 for as it is.
        mixed_precision: multiplications have 16 bits while training, where there is a GPU; on a processor it has no effect.
        patience: training ends after so many epochs without improvement, counted from where the technique is in force;
            the learning rate falls as it would without; 0 for never.
        augment: which of the task's augmentations are applied: `all`, `none`, or one of them by its name.
        items: of the training data, that it trains on: so many at random, the same ones each time; 0 for all.
    """

    epochs: int = setting(2, label="epochs", milder=Milder.MORE)
    learning_rate: float = setting(1e-3, label="learning rate", words="{:g}".format)
    batch_size: int = setting(32, label="batch size")
    distillation: float = setting(0.0, label="distillation", words=percent, milder=Milder.MORE, rare=True, quiet=True)
    temperature: float = setting(
        4.0, label="temperature", words="{:g}".format, applies=lambda get: bool(get("distillation")), quiet=True
    )
    averaging: float = setting(0.0, label="weight averaging", words="{:g}".format, rare=True, quiet=True)
    recalibrate: bool = setting(False, label="batch norm recalibrated", words=yes_or_no, rare=True, quiet=True)
    frozen: str = setting("train", label="frozen layers", words=lambda _: "kept", rare=True, quiet=True)
    optimizer: str = setting("adam", label="optimizer", written=optimizers.written, rare=True, quiet=True)
    weight_decay: float = setting(0.0, label="weight decay", words="{:g}".format, rare=True, quiet=True)
    warmup: float = setting(0.0, label="warm-up", words=percent, rare=True, quiet=True)
    clip_norm: float = setting(0.0, label="gradient norm at most", words="{:g}".format, rare=True, quiet=True)
    mixed_precision: bool = setting(False, label="mixed precision", words=yes_or_no, rare=True, quiet=True)
    patience: int = setting(
        0, label="patience", words=lambda n: f"{n} epoch{'s' if n > 1 else ''}", rare=True, quiet=True
    )
    augment: str = setting("all", label="augmentation", rare=True, quiet=True)
    items: int = setting(0, label="training items", words="{:,}".format, milder=Milder.SAME, rare=True, quiet=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", float(f"{number('finetune.learning_rate', self.learning_rate):.6g}"))
        expect_number("finetune.epochs", self.epochs, minimum=1, whole=True)
        if not 0 < self.learning_rate < 100:
            fail("finetune.learning_rate", "a number over 0 and under 100", self.learning_rate)
        expect_number("finetune.batch_size", self.batch_size, minimum=1, whole=True)
        for name in ("distillation", "averaging", "temperature", "weight_decay", "warmup", "clip_norm"):
            expect_heard(f"finetune.{name}", getattr(self, name))
            object.__setattr__(self, name, rounded(f"finetune.{name}", getattr(self, name)))
        if not 0 <= self.distillation <= 1:
            fail("finetune.distillation", "a weight in [0, 1]", self.distillation)
        if not self.distillation:
            object.__setattr__(self, "temperature", 4.0)
        if not 0 < self.temperature <= 100:
            fail("finetune.temperature", "a number over 0, up to 100", self.temperature)
        if not 0 <= self.averaging < 1:
            fail("finetune.averaging", "a decay in [0, 1)", self.averaging)
        expect_truth("finetune.recalibrate", self.recalibrate)
        expect_one_of("finetune.frozen", self.frozen, FROZEN)
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        """Check what the optimizer does with gradients, and when it stops."""
        object.__setattr__(self, "optimizer", optimizers.written(self.optimizer))
        if not isinstance(self.optimizer, str):
            fail("finetune.optimizer", f"one of {', '.join(optimizers.ARGUMENTS)}", self.optimizer)
        if not 0 <= self.weight_decay < 1:
            fail("finetune.weight_decay", "a number in [0, 1)", self.weight_decay)
        if not 0 <= self.warmup < 1:
            fail("finetune.warmup", "a share of the training in [0, 1)", self.warmup)
        if not 0 <= self.clip_norm < float("inf"):
            fail("finetune.clip_norm", "a number over 0, or 0 for none", self.clip_norm)
        expect_truth("finetune.mixed_precision", self.mixed_precision)
        expect_number("finetune.patience", self.patience, minimum=0, whole=True)
        if not isinstance(self.augment, str) or not self.augment.isidentifier():
            fail("finetune.augment", "all, none, or the name of one of the task's augmentations", self.augment)
        expect_number("finetune.items", self.items, minimum=0, whole=True)

    def __repr__(self) -> str:
        """The call that makes it, without what is as usual."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        usual = {f.name: f.default for f in fields(self) if meaning.of(f).quiet}
        shown = (f"{name}={value!r}" for name, value in given.items() if (name, value) not in usual.items())
        return f"Finetune({', '.join(shown)})"

    def label(self) -> str:
        """Words for people, such as `2 epochs at 0.001`."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        epochs += f" of {self.items:,} items" if self.items else ""
        taught = " distilled" if self.distillation else ""
        by = "" if self.optimizer == "adam" else f" by {self.optimizer.partition('(')[0]}"
        changed = {"all": "", "none": " unaugmented"}.get(self.augment, f" with {self.augment}")
        return f"{epochs}{changed}{taught}{by} at {self.learning_rate:g}"
