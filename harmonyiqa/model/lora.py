"""Which weights learn: LoRA placement, full training, freezing."""

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from harmonyiqa.config import LoraSettings, TrainableSettings
from harmonyiqa.errors import UserError

# One full-path pattern a tower: a bare `q_proj` would hit both, `all-linear` the projector too.
VISION_TARGETS = (
    r"model\.vision_tower\.encoder\.layer\.\d+\."
    r"(attention\.(q_proj|k_proj|v_proj|projection_layer)|mlp\.(fc1|fc2))"
)
LLM_TARGETS = (
    r"model\.language_model\.layers\.\d+\."
    r"(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"
)


def add_adapters(backbone: nn.Module, lora: LoraSettings, *, vision: bool, llm: bool) -> PeftModel:
    """Put LoRA layers into the InternVL model, in place; the wrapper knows how to save and merge them.

    Raises:
        UserError: a tower has no layer of the expected names.
    """
    targets = [t for t, wanted in ((VISION_TARGETS, vision), (LLM_TARGETS, llm)) if wanted]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="|".join(f"({t})" for t in targets),
    )
    wrapped = get_peft_model(backbone, config)
    names = [name for name, _ in backbone.named_parameters() if "lora_A" in name]
    for tower, wanted in (("vision_tower", vision), ("language_model", llm)):
        if wanted and not any(f".{tower}." in name for name in names):
            raise UserError(
                f"LoRA found no layers in the {tower} of {type(backbone).__name__}: not a known InternVL layout"
            )
    return wrapped


def set_trainable(model: nn.Module, trainable: TrainableSettings, stage: int) -> None:
    """Mark which parameters of a `HarmonyIQA` get gradients; everything else is frozen.

    What learns is float32, whatever the frozen weights are: a step of 4e-5 is lost in a bfloat16 weight.
    `lm_head` takes no part in stage 2, so it learns in stage 1 only (tied to the embedding, it learns in both).
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns(name, trainable, stage))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("nothing to train: vision and llm are frozen and projector is false")


def learns(name: str, trainable: TrainableSettings, stage: int) -> bool:
    """Whether a parameter of a `HarmonyIQA`, by its name, gets gradients in a stage."""
    if ".stem." in name and not trainable.stem:
        return False
    how = {"vision_tower": trainable.vision, "language_model": trainable.llm}
    part = next((p for p in how if f".{p}." in name), None)
    if part is not None:
        return how[part] == "full" or (how[part] == "lora" and "lora_" in name)
    if ".multi_modal_projector." in name:
        return trainable.projector
    if name.startswith(("score_head.", "map_head.")):
        return stage == 2
    return name == "backbone.lm_head.weight" and trainable.llm == "full" and stage == 1
