"""Settings of the scorer: its trainings, and what a saved model remembers."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from harmonyiqa.config.common import PhotoSettings, check_loop, require
from harmonyiqa.errors import UserError

Part = Literal["frozen", "lora", "full"]
Mode = Literal["nr", "fr", "both"]


@dataclass
class LoraSettings:
    """Low-rank adapters, the same for the vision encoder and the LLM.

    Attributes:
        rank: rank r of the update A B.
        alpha: the update is scaled by alpha / rank.
        dropout: dropout on the adapter's input, in [0, 1).
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require("lora.rank", self.rank, self.rank >= 1, "at least 1")
        require("lora.dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")


@dataclass
class TrainableSettings:
    """Which parts learn, and how (paper, section III-B and table IV).

    Attributes:
        vision: the vision encoder: frozen, LoRA, or every weight.
        llm: the language model: frozen, LoRA, or every weight.
        projector: whether the projector's weights are trained.
        stem: whether a convolutional stem is trained with "vision: full" (`harmonyiqa.model.tower`).
        lora: the adapters of the parts set to "lora".
    """

    vision: Part = "lora"
    llm: Part = "lora"
    projector: bool = True
    stem: bool = True
    lora: LoraSettings = field(default_factory=LoraSettings)


@dataclass
class StartSettings:
    """The model that training starts from.

    Attributes:
        model: "bundled", a hub id, or a folder: a native InternVL checkpoint or a model saved by this package
            (stage 2 starts from the folder that stage 1 wrote).
        revision: the hub revision (branch, tag or commit).
        prompt: a prompt of `prompts/` by name, or a YAML file; a model saved by this package keeps its own.
        max_tiles: tiles an image at most, the thumbnail not counted; likewise. Their side is the checkpoint's own.
        head: stages 0 and 2: begin with the heads of this saved model ("bundled" or a folder) instead of new ones.
        dtype: how weights that do not learn are kept in memory; those that learn are always float32.
        quantize: keep the LLM's layers in 4 bits ("nf4", QLoRA) or 8 bits; vision encoder, projector, embeddings and
            `lm_head` stay as they are. The LLM must then be "lora" or "frozen".
        attention: "auto" takes flash attention where it is installed, on a GPU and in half precision, else sdpa.
    """

    model: str = "bundled"
    revision: str | None = None
    prompt: str = "harmony_v1"
    max_tiles: int = 6
    head: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["none", "8bit", "nf4"] = "none"
    attention: Literal["auto", "sdpa", "flash_attention_2"] = "auto"

    def __post_init__(self) -> None:
        require("start.max_tiles", self.max_tiles, self.max_tiles >= 1, "at least 1")


@dataclass
class DataSettings:
    """What it learns from.

    Attributes:
        manifest: a manifest with a `split` column (see `harmonyiqa data split`).
        mode: "nr" one image, "fr" reference and image, "both" each image once in each way.
        flip: mirror half of the training images left to right, the reference with its image.
        workers: processes that decode images; 0 decodes in the training process.
    """

    manifest: str
    mode: Mode = "nr"
    flip: bool = True
    workers: int = 1


@dataclass
class OptimSettings:
    """The optimiser, with a cosine schedule.

    Attributes:
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay.
        warmup: share of all steps in which the rate rises linearly, in [0, 1).
        epochs: passes over the training split; may be a fraction.
        batch_size: images a step and process.
        accumulation: steps whose gradients are summed before the weights move.
        max_grad_norm: gradients are scaled down to this norm.
        precision: "fp32", "bf16" or "fp16".
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        optimizer: AdamW with its state in 32 bits, in 8 bits (bitsandbytes), or in 8 bits and paged to the host; or
            "muon": Muon for matrices, AdamW for the rest, where every weight of a small model learns.
    """

    learning_rate: float = 4e-5
    weight_decay: float = 0.01
    warmup: float = 0.03
    epochs: float = 10
    batch_size: int = 16
    accumulation: int = 1
    max_grad_norm: float = 1.0
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    gradient_checkpointing: bool = True
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "muon"] = "adamw"

    def __post_init__(self) -> None:
        check_loop(self)
        require("optim.warmup", self.warmup, 0 <= self.warmup < 1, "in [0, 1)")


@dataclass
class ValidationSettings:
    """When the validation split is scored, and when to stop.

    Attributes:
        per_epoch: validations (and checkpoints) in each epoch.
        patience: stop after this many validations in a row without a better SRCC; 0 never stops early.
        max_images: at most this many validation images, the same every time; 0 takes all.
        batch_size: images a step and process.
        keep: which weights the run leaves: those of the "best" validation, or the "last". With composites that never
            repeat and a rate that falls to nothing the last ones are better than a short validation can choose.
    """

    per_epoch: int = 1
    patience: int = 3
    max_images: int = 0
    batch_size: int = 32
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        require("validation.per_epoch", self.per_epoch, self.per_epoch >= 1, "at least 1")
        require("validation.patience", self.patience, self.patience >= 0, "0 or more")


@dataclass
class TrainSettings:
    """One training run (one YAML file of `configs/`).

    Attributes:
        stage: 1 trains the score sentence with cross-entropy, 2 the score head with mean squared error (paper, III-B);
            0 comes before both, for models from random weights: score, sentence and map of what was altered (`photos`).
        out: the run folder.
        data: the manifest and how it is read; with `photos` only its validation split is.
        start: the model to start from.
        trainable: which parts learn.
        optim: optimiser and schedule.
        validation: metrics during training, early stop.
        seed: seeds the weights of new parts, the data order and dropout.
        max_steps: stop after this many optimiser steps; 0 follows `optim.epochs`.
        photos: what stage 0 learns from, and the others too if it is given: composites, with a map of what was altered.
    """

    stage: Literal[0, 1, 2]
    out: str
    data: DataSettings
    start: StartSettings = field(default_factory=StartSettings)
    trainable: TrainableSettings = field(default_factory=TrainableSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    seed: int = 0
    max_steps: int = 0
    photos: PhotoSettings | None = None

    def __post_init__(self) -> None:
        if self.stage == 0 and self.photos is None:
            raise UserError("stage 0 learns from `photos`: name their folder")


@dataclass
class TowerTrainSettings:
    """One training of a vision tower by itself (one YAML file of `configs/` with `stage: tower`).

    Attributes:
        stage: says that this comes before all stages of the scorer.
        out: the run folder.
        start: the checkpoint to start from; its vision tower has a stem.
        photos: what it learns from.
        tile: side of the composites in pixels; 0 is the checkpoint's own. Smaller ones are cheaper.
        optim: optimiser and schedule; one epoch is `photos.images` composites.
        validation: composites of validation photos during training.
        seed: seeds new weights and what is drawn.
        max_steps: stop after this many optimiser steps; 0 follows `optim.epochs`.
    """

    stage: Literal["tower"]
    out: str
    start: StartSettings
    photos: PhotoSettings
    tile: int = 0
    optim: OptimSettings = field(default_factory=OptimSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    seed: int = 0
    max_steps: int = 0

    def __post_init__(self) -> None:
        require("tile", self.tile, self.tile >= 0 and self.tile % 32 == 0, "a multiple of 32, or 0")
        if not self.validation.max_images:
            raise UserError("validation.max_images: say how many composites the tower is validated on")


@dataclass
class ModelSettings:
    """What a saved model must remember besides its weights (`settings.json`).

    Attributes:
        layout: "full" (every weight is here) or "adapter" (LoRA, projector and head; the base comes from `base`).
        base: the hub id that the adapter belongs to, or `bundled@<sha256 of its weights>`; empty for "full".
        base_revision: the hub revision of `base`.
        stage: the last stage trained; 0 is a model that has learned no score yet.
        prompt: the prompt's name and version, for reading; the text itself is in `prompt.yaml`.
        tile_size: side of a tile in pixels.
        max_tiles: tiles an image at most, the thumbnail not counted.
        mos_mean: mean of the training MOS; the head predicts (MOS - mean) / std.
        mos_std: standard deviation of the training MOS.
        mos_kind: where the training MOS came from: "human", "synthetic", or empty if unknown.
        map_cells: cells along a side of an image token in the map of what was altered; 0 without such a map.
        dtype: floating-point type of the stored weights.
        lora: adapter sizes; None without adapters.
        lora_vision: whether the vision encoder has adapters.
        lora_llm: whether the LLM has adapters.
        package_version: the version of this package that saved the model.
    """

    layout: Literal["full", "adapter"] = "full"
    base: str = ""
    base_revision: str | None = None
    stage: Literal[0, 1, 2] = 0
    prompt: str = ""
    tile_size: int = 448
    max_tiles: int = 6
    mos_mean: float = 50.0
    mos_std: float = 1.0
    mos_kind: str = ""
    map_cells: int = 0
    dtype: str = "float32"
    lora: LoraSettings | None = None
    lora_vision: bool = False
    lora_llm: bool = False
    package_version: str = ""

    @property
    def has_score_head(self) -> bool:
        """Whether `score` uses the head; else the score is read from the generated sentence."""
        return self.stage == 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild from JSON values.

        Raises:
            UserError: a name is unknown, which means that a newer version saved the model.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise UserError(
                f"unknown settings {', '.join(unknown)}: the model was saved by a newer harmonyiqa; upgrade"
            )
        lora = values.get("lora")
        return cls(**{**values, "lora": LoraSettings(**lora) if lora else None})
