"""`harmonyiqa train`, and the two training scripts."""

from harmonyiqa.config import TrainSettings


def train(settings: TrainSettings, resume: bool = False) -> None:
    """Train one stage of the scorer.

    Args:
        settings: the run.
        resume: go on from the newest checkpoint of the run folder.
    """
    from harmonyiqa.train.scorer import train_scorer

    train_scorer(settings, resume=resume)
