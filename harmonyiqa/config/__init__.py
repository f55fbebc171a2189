"""Settings. Every field is a command-line option and a YAML key of the same name; unknown names are errors."""

from harmonyiqa.config.aict import (
    AictDataSettings,
    AictLossSettings,
    AictOptimSettings,
    AictSettings,
    AictTrainSettings,
    AictValidationSettings,
)
from harmonyiqa.config.common import PhotoSettings
from harmonyiqa.config.scorer import (
    DataSettings,
    LoraSettings,
    Mode,
    ModelSettings,
    OptimSettings,
    Part,
    StartSettings,
    TowerTrainSettings,
    TrainableSettings,
    TrainSettings,
    ValidationSettings,
)

__all__ = [
    "AictDataSettings",
    "AictLossSettings",
    "AictOptimSettings",
    "AictSettings",
    "AictTrainSettings",
    "AictValidationSettings",
    "DataSettings",
    "LoraSettings",
    "Mode",
    "ModelSettings",
    "OptimSettings",
    "Part",
    "PhotoSettings",
    "StartSettings",
    "TowerTrainSettings",
    "TrainSettings",
    "TrainableSettings",
    "ValidationSettings",
]
