"""What the service counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service, beside what its process uses (Linux).

    Args:
        in_house: how many requests are in the house now.
    """

    def __init__(self, in_house: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("harmonyiqa_in_house", "Requests let in and not answered", registry=registry).set_function(
            in_house
        )
        self._answers = Counter("harmonyiqa_answers", "Answers to /score", ["status"], registry=registry)
        self._seconds = Histogram(
            "harmonyiqa_request_seconds",
            "From a request's first byte to its answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Histogram(
            "harmonyiqa_call_images", "Images of a model call", buckets=_IMAGES, registry=registry
        )
        self._model_seconds = Counter("harmonyiqa_model_seconds", "Time in model calls", registry=registry)

    def answer(self, status: int, seconds: float) -> None:
        """Count an answer to /score."""
        self._answers.labels(status).inc()
        self._seconds.observe(seconds)

    def call(self, images: int, seconds: float) -> None:
        """Count a model call."""
        self._images.observe(images)
        self._model_seconds.inc(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
