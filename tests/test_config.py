import pytest

from harmonyiqa.config import LoraSettings, ModelSettings, OptimSettings, StartSettings
from harmonyiqa.errors import UserError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraSettings(rank=0), "lora.rank: 0 must be at least 1"),
        (lambda: LoraSettings(dropout=1.0), r"lora.dropout: 1.0 must be in \[0, 1\)"),
        (lambda: OptimSettings(learning_rate=-1), "learning_rate: -1 must be positive"),
        (lambda: OptimSettings(warmup=1), "warmup"),
        (lambda: StartSettings(max_tiles=0), "max_tiles: 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_model_settings_survive_json() -> None:
    settings = ModelSettings(
        layout="adapter", base="bundled@00", stage=2, mos_mean=49.88, lora=LoraSettings(rank=4)
    )
    assert ModelSettings.from_dict(settings.to_dict()) == settings


def test_settings_of_a_newer_version_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"unknown settings colour_space.*newer"):
        ModelSettings.from_dict({"colour_space": "oklab"})
