"""Settings of AICT: its network and its training."""

from dataclasses import dataclass, field
from typing import Literal

from harmonyiqa.config.common import PhotoSettings, check_loop, require


@dataclass
class AictSettings:
    """The AICT network (Meng et al., NeurIPS 2024, section 3); the defaults are the authors' release.

    Attributes:
        low_resolution: side in pixels at which it looks at an image; a multiple of 4 (the patch).
        knots: values K of one channel's curve.
        tables: the cascade, one letter a table in the order in which colours pass: "i" redistributes colours (an
            interval table, K + 1 rising values), "v" gives the output (a value table, K free values).
        weights: channels whose value tables an image-level weight multiplies; "spatial" has a weight a pixel instead.
        crossed: every output channel is a sum of curves of all three input channels.
        position: "sine" adds a positional encoding, as the paper says; the release has none.
        dropout: in the transformer encoder, in [0, 1).
    """

    low_resolution: int = 256
    knots: int = 8
    tables: str = "iv"
    weights: Literal["rgb", "gb", "b", "none", "spatial"] = "rgb"
    crossed: bool = False
    position: Literal["none", "sine"] = "none"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        side = self.low_resolution
        require("low_resolution", side, side >= 16 and side % 4 == 0, "a multiple of 4, at least 16")
        require("knots", self.knots, self.knots >= 2, "at least 2")
        require(
            "tables", self.tables, bool(self.tables) and set(self.tables) <= {"i", "v"}, "letters i and v"
        )
        require("tables", self.tables, self.tables.endswith("v"), "a cascade that ends with a value table, v")
        alone = not self.crossed or self.weights == "none"
        require("weights", self.weights, alone, "'none' with crossed channels")
        require("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")


@dataclass
class AictDataSettings:
    """What AICT learns from.

    Attributes:
        manifest: composites with masks and real photos (column `reference`), and a `split` column with train and val.
        max_side: larger photos are made smaller, to this longest side in pixels; 0 never does.
        min_crop: a crop has at least this share of each side; 1 takes the whole photo.
        flip: mirror half of the photos left to right.
        workers: processes that decode images; 0 decodes in the training process.
    """

    manifest: str
    max_side: int = 2048
    min_crop: float = 0.5
    flip: bool = True
    workers: int = 1

    def __post_init__(self) -> None:
        require("data.max_side", self.max_side, self.max_side >= 0, "0 or more")
        require("data.min_crop", self.min_crop, 0 < self.min_crop <= 1, "in (0, 1]")


@dataclass
class AictLossSettings:
    """Foreground-normalised squared error at both resolutions (AICT paper, equations 2 and 3; table 6).

    Attributes:
        low_weight: lambda, the weight of the low-resolution loss.
        min_area_high: Amin in pixels at the photo's resolution: a smaller foreground counts as this large.
        min_area_low: Amin at the network's resolution.
        normalization: "foreground"; or "image", where Amin is the whole image ("MSE" of table 6).
    """

    low_weight: float = 0.01
    min_area_high: float = 1000
    min_area_low: float = 100
    normalization: Literal["foreground", "image"] = "foreground"

    def __post_init__(self) -> None:
        require("loss.low_weight", self.low_weight, self.low_weight >= 0, "0 or more")
        require("loss.min_area_high", self.min_area_high, self.min_area_high > 0, "positive")
        require("loss.min_area_low", self.min_area_low, self.min_area_low > 0, "positive")


@dataclass
class AictOptimSettings:
    """The optimiser; the rate is constant at first, then falls linearly to zero (AICT paper, section 4.1.2).

    Attributes:
        learning_rate: of the first part.
        constant: share of all steps with that rate, in [0, 1].
        epochs: passes over the training split; may be a fraction.
        batch_size: images a step and process.
        accumulation: steps whose gradients are summed before the weights move.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them as they are.
        average: what each step leaves of a running mean of the weights, such as 0.99; the mean is what is validated and
            kept (Tarvainen and Valpola, NeurIPS 2017). 0: the weights themselves.
        precision: "fp32" or "bf16".
        optimizer: "adam" as in the paper, or "muon": Muon for matrices, Adam for the rest.
    """

    learning_rate: float = 5e-5
    constant: float = 0.5
    epochs: float = 100
    batch_size: int = 4
    accumulation: int = 1
    max_grad_norm: float = 0
    average: float = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    optimizer: Literal["adam", "muon"] = "adam"

    def __post_init__(self) -> None:
        check_loop(self)
        require("optim.average", self.average, 0 <= self.average < 1, "in [0, 1)")
        require("optim.constant", self.constant, 0 <= self.constant <= 1, "in [0, 1]")


@dataclass
class AictValidationSettings:
    """When the validation split is harmonized; the network with the lowest fMSE is kept.

    Attributes:
        per_epoch: validations (and checkpoints) in each epoch; may be a fraction.
        patience: stop after this many validations in a row without a lower fMSE; 0 never stops early.
        max_images: at most this many validation images, the same every time; 0 takes all.
    """

    per_epoch: float = 1
    patience: int = 0
    max_images: int = 0

    def __post_init__(self) -> None:
        require("validation.per_epoch", self.per_epoch, self.per_epoch > 0, "positive")
        require("validation.patience", self.patience, self.patience >= 0, "0 or more")


@dataclass
class AictTrainSettings:
    """One training run of AICT (one YAML file of `configs/` with `stage: aict`).

    Attributes:
        stage: says that this is no stage of the scorer.
        out: the run folder.
        data: the manifest and how it is read.
        photos: composites to learn from, made while it trains at `photos.size` pixels, instead of the manifest's
            training split; only shifts of a region have a truth, so that pastes, pairs and wear count for nothing.
        start: a saved AICT to go on from (a folder, a hub id, or "bundled") instead of new weights; its tables and
            weights must be those of `network`, its resolution need not.
        network: the layout.
        loss: what is minimised.
        optim: optimiser and schedule.
        validation: fMSE during training, early stop.
        seed: seeds new weights, the data order, crops and dropout.
        max_steps: stop after this many optimiser steps; 0 follows `optim.epochs`.
    """

    stage: Literal["aict"]
    out: str
    data: AictDataSettings
    photos: PhotoSettings | None = None
    start: str | None = None
    network: AictSettings = field(default_factory=AictSettings)
    loss: AictLossSettings = field(default_factory=AictLossSettings)
    optim: AictOptimSettings = field(default_factory=AictOptimSettings)
    validation: AictValidationSettings = field(default_factory=AictValidationSettings)
    seed: int = 0
    max_steps: int = 0
