"""HarmonyIQA: does this composite image look right to people?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonyiqa.model.harmonyiqa import HarmonyIQA

__version__ = "0.1.0"
__all__ = ["HarmonyIQA", "__version__"]


def __getattr__(name: str) -> Any:
    # torch and transformers load only when the model is asked for
    if name == "HarmonyIQA":
        from harmonyiqa.model.harmonyiqa import HarmonyIQA

        return HarmonyIQA
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
