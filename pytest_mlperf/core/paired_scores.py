"""Whether scores keep a share of a reference's, from the same questions under both.

A low precision changes a few answers of many, for the better as often as for the worse.
Two accuracies tell little of that: on 544 questions, half an answer is 0.1 %. Question
by question, the answers that did not change cancel out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WHOLE = 100.0
"""The score of a question that is answered fully, in percent."""
Z = 1.959964
"""Standard deviations to either side of a normal distribution that hold 95 %."""
KEPT, LOST, OPEN = "kept", "lost", "open"


@dataclass(frozen=True, slots=True)
class PairedScores:
    """A score as a share of a reference's, with its 95 % interval."""

    questions: int
    better: int
    """Questions with a higher score than under the reference."""
    worse: int
    ratio: float
    low: float
    high: float

    @classmethod
    def compare(
        cls, scores: Sequence[float], reference: Sequence[float]
    ) -> PairedScores:
        """Compare the scores of the same questions, in percent.

        The interval is that of a ratio of means (the delta method), with half a
        question added that turned from right to wrong and half a one that turned from
        wrong to right, as Agresti and Min (2005) do for paired proportions: that no
        answer of a few changed is no proof that none does.

        Raises ``ValueError`` for no questions, other ones, or a reference of nothing.
        """
        if len(scores) != len(reference) or not scores:
            raise ValueError(
                f"found scores of {len(scores)} and {len(reference)} questions, but "
                "should be the same questions, and one at least"
            )
        total = math.fsum(reference)
        if total <= 0:
            raise ValueError(
                "the reference scores nothing, so that there is nothing to keep; look "
                "at the accuracy of the precision that is compared with"
            )
        ratio = math.fsum(scores) / total
        pairs = list(zip(scores, reference, strict=True))
        spread = math.fsum((one - ratio * other) ** 2 for one, other in pairs)
        spread += WHOLE**2 * (1 + ratio**2) / 2
        half = Z * math.sqrt(spread) / total
        return cls(
            questions=len(scores),
            better=sum(one > other for one, other in pairs),
            worse=sum(one < other for one, other in pairs),
            ratio=ratio,
            low=ratio - half,
            high=ratio + half,
        )

    def judge(self, share: float) -> str:
        """Return whether at least this share of the reference is kept.

        ``kept`` and ``lost`` where the whole interval says so, ``open`` otherwise.
        """
        if self.low >= share:
            return KEPT
        return LOST if self.high < share else OPEN

    def questions_to_tell(self, share: float) -> int | None:
        """Return about how many questions would decide, if the ratio stays as it is.

        None where it is so close to the share that no number would.
        """
        distance = abs(self.ratio - share)
        if distance < 1e-6:
            return None
        half = (self.high - self.low) / 2
        return math.ceil(self.questions * (half / distance) ** 2)
