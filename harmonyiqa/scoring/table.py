"""What ``harmonyiqa score`` prints: worst score first, then what failed, then a summary."""

from collections.abc import Sequence
from statistics import fmean

from harmonyiqa.data.predictions import Prediction

_SHOWN_SCORES, _SHOWN_FAILURES = 40, 20


def render(predictions: Sequence[Prediction], note: str) -> str:
    """The table as text; a long one is cut, and says so.

    Args:
        predictions: in any order.
        note: the last line.
    """
    scored = sorted((p.score, p.image) for p in predictions if p.score is not None)
    failed = [p for p in predictions if p.score is None]
    lines = []
    if scored:
        lines.append("score  image")
        lines += [f"{score:5.2f}  {_printable(image)}" for score, image in scored[:_SHOWN_SCORES]]
        lines += _more(len(scored) - _SHOWN_SCORES, "with better scores")
    if failed:
        lines.append("failed:")
        lines += [f"  {_printable(_failure(prediction))}" for prediction in failed[:_SHOWN_FAILURES]]
        lines += _more(len(failed) - _SHOWN_FAILURES, "that failed")
    return "\n".join([*lines, _summary(predictions), note])


def _summary(predictions: Sequence[Prediction]) -> str:
    scored = [p for p in predictions if p.score is not None]
    paired = sum(p.reference is not None for p in scored)
    text = f"{len(scored)} scored" + (f" ({paired} against a reference)" if paired else "")
    text += f", {len(predictions) - len(scored)} failed"
    if scored:
        text += f", mean {fmean(p.score for p in scored if p.score is not None):.2f}"
        text += " on a scale of 0 to 100, higher is better; compare versions of one scene first"
    return text


def _more(count: int, what: str) -> list[str]:
    return [f"... {count} more {what}: --out FILE.csv lists every one"] if count > 0 else []


def _failure(prediction: Prediction) -> str:
    """The reason, and which image it was where the reason does not begin with it."""
    reason = prediction.error or ""
    return reason if reason.startswith(prediction.image) else f"{prediction.image}: {reason}"


def _printable(text: str) -> str:
    """A file name may hold anything, even commands to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
