"""How a run calls its model: prepared examples in, outcomes out, as many at a time as the memory holds."""

import math
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from harmonyiqa.errors import UserError
from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.forward import Forward
from harmonyiqa.scoring.plan import CPU_TOKENS, Outcome, TokenBudget, find_budget, shape_of, tokens
from harmonyiqa.scoring.processes import gather, place

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

Result = TypeVar("Result")


class Caller:
    """A model, the way to its scores, and how much it takes at a time. All processes of a group make one together.

    Args:
        model: on its device.
        text: read the score from the sentence that the model generates, not from its score head. A model that went
            through stage 1 only has no head and always does so.
        tokens_per_call: how much the batches are planned for; default: what suits the first process's device.

    Attributes:
        text: whether scores are read from sentences.
        tokens_per_call: the same in every process. Where memory runs out all the same, calls are made in parts, and
            the last bits of a score may then depend on when that was.
    """

    def __init__(
        self, model: "HarmonyIQA", *, text: bool = False, tokens_per_call: int | None = None
    ) -> None:
        self.model = model
        self.text = text or not model.settings.has_score_head
        self._forward = None if self.text else Forward(model)
        if tokens_per_call is None and place()[0] == 0:
            tokens_per_call = CPU_TOKENS if self._forward is None else find_budget(self._forward, model)
        self.tokens_per_call: int = gather(tokens_per_call)[0] or CPU_TOKENS
        self._budget = self._new_budget()

    def _new_budget(self) -> TokenBudget:
        return TokenBudget(self.tokens_per_call, *([] if self._forward is None else [self._forward.clear]))

    def another(self) -> "Caller":
        """One for another thread: it scores alike and keeps to itself what it keeps from call to call."""
        other = copy(self)
        other._forward = None if self._forward is None else Forward(self.model)
        other._budget = other._new_budget()
        return other

    def score(self, examples: Sequence[Example], references: Sequence[Hashable | None]) -> list[Outcome]:
        """Each example's score, or why it has none.

        Args:
            examples: of the model's own `Inputs`.
            references: what each one's reference is known by: equal names, equal pixels. None: it has none.
        """
        return self.run(examples, references, self._score)

    def run(
        self,
        examples: Sequence[Example],
        references: Sequence[Hashable | None],
        call: Callable[[list[Example], list[Hashable | None]], Sequence[Result]],
    ) -> list[Result | str]:
        """What `call` makes of each example; a call that does not fit into memory is made again in parts.

        Args:
            examples: as in `score`.
            references: as in `score`.
            call: results of examples and the names of their references, in order.

        Returns:
            As many as examples, in their order; a reason for one that does not fit by itself.
        """
        rows = list(zip(examples, references, strict=True))
        if not rows:
            return []
        cost = tokens(self.model.inputs, [shape_of(example, name) for example, name in rows])
        return self._budget.run(
            rows, cost, lambda part: call([e for e, _ in part], [name for _, name in part])
        )

    def _score(self, examples: list[Example], references: list[Hashable | None]) -> list[Outcome]:
        if self._forward is None:
            return [
                self._read(sentence) for sentence in self.model.predict_text(self.model.collate(examples))
            ]
        return [_finite(score) for score in self._forward.score(examples, references).tolist()]

    def _read(self, sentence: str) -> Outcome:
        try:
            return self.model.inputs.prompt.read_score(sentence)
        except UserError as error:
            return str(error)


def _finite(score: float) -> Outcome:
    return score if math.isfinite(score) else f"the model returned {score}, which is no score"
