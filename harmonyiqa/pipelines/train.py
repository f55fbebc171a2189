"""``harmonyiqa train`` and the training scripts: train one stage, or AICT, then write the model card."""

from harmonyiqa.config import AictTrainSettings, TrainSettings


def train(settings: TrainSettings | AictTrainSettings, resume: bool = False) -> None:
    """Train one stage of the scorer, or the harmonizer AICT, on a manifest with a train and a val split.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint of the run folder.

    Raises:
        UserError: if the data or the start model do not fit the settings, or the run folder is taken.
    """
    from accelerate import PartialState  # slow imports wait until the settings are known to be good

    from harmonyiqa.report.model_card import write_aict_card, write_model_card
    from harmonyiqa.train.runs import read_run

    if isinstance(settings, AictTrainSettings):
        from harmonyiqa.train.aict import train_aict

        train_aict(settings, resume=resume)
    else:
        from harmonyiqa.train.scorer import train_scorer

        model = train_scorer(settings, resume=resume)
    if PartialState().is_main_process:
        folder, metrics, environment = read_run(settings)
        card = folder / "model" / "README.md"
        if isinstance(settings, AictTrainSettings):
            write_aict_card(card, settings, metrics, environment)
        else:
            write_model_card(card, model.settings, settings, metrics, environment)
        print(f"model: {folder / 'model'}")
