"""What ``harmonyiqa score`` prints: worst score first, then what failed, then a summary."""

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.scoring.summary import Summary

_SHOWN_SCORES, _SHOWN_FAILURES = 40, 20


def render(summary: Summary, note: str) -> str:
    """The table as text; a long one is cut, and says so.

    Args:
        summary: of what was scored.
        note: the last line.
    """
    lines = []
    if summary.scores:
        lines.append("score  image")
        shown = [kept.prediction for kept in summary.worst[:_SHOWN_SCORES]]
        lines += [f"{prediction.score:5.2f}  {_printable(prediction.image)}" for prediction in shown]
        lines += _more(len(summary.scores) - _SHOWN_SCORES, "with better scores")
    if summary.failed:
        lines.append("failed:")
        failures = [kept.prediction for kept in summary.failures[:_SHOWN_FAILURES]]
        lines += [f"  {_printable(_failure(prediction))}" for prediction in failures]
        lines += _more(summary.failed - _SHOWN_FAILURES, "that failed")
    return "\n".join([*lines, _totals(summary), note])


def _totals(summary: Summary) -> str:
    paired = f" ({summary.paired} against a reference)" if summary.paired else ""
    text = f"{len(summary.scores)} scored{paired}, {summary.failed} failed"
    if summary.mean is not None:
        text += f", mean {summary.mean:.2f}"
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
