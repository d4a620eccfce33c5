"""The contract of a classifier as a test class. Subclass it, give the fixture ``classifier``, run pytest::

    class TestMine(ClassifierContract):
        @pytest.fixture
        def classifier(self):
            return MyClassifier(...)

``classifier`` must be ready to score. A scorer that cannot learn (an endpoint) sets ``learns = False``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fivenines.models.protocols import ClassifierLike, ScorerLike
from fivenines.records import Answer, Judgment, Snippet

__all__ = ["ClassifierContract"]


class ClassifierContract:
    """What every classifier keeps. Override ``snippets`` and ``answers`` if yours takes other texts."""

    learns = True
    tolerance = 1e-4  # two batches of a real model differ in the last bits of float32, or more in bfloat16

    snippets: tuple[Snippet, ...] = tuple(
        Snippet(f"Number {i} went for a walk.", completion)
        for i in range(6)
        for completion in ("Nobody was hurt, 1.", "Somebody got hurt, 2.")
    )
    answers: tuple[Answer, ...] = (Answer.OK, Answer.FAILURE) * 6

    @pytest.fixture
    def classifier(self) -> ScorerLike:
        raise NotImplementedError("a subclass gives the classifier")

    def judgments(self) -> list[Judgment]:
        pairs = zip(self.snippets, self.answers, strict=True)
        return [Judgment(snippet.id, answer) for snippet, answer in pairs]

    def close(self, left: object, right: object) -> bool:
        return np.allclose(np.asarray(left), np.asarray(right), rtol=0.0, atol=self.tolerance)

    def test_it_is_a_scorer(self, classifier: ScorerLike) -> None:
        assert isinstance(classifier, ScorerLike)

    def test_scores_are_probabilities(self, classifier: ScorerLike) -> None:
        scores = classifier.scores(self.snippets)
        assert isinstance(scores, np.ndarray)
        assert scores.dtype == np.float64
        assert scores.shape == (len(self.snippets),)
        assert ((scores >= 0.0) & (scores <= 1.0)).all()

    def test_no_snippets_give_no_scores(self, classifier: ScorerLike) -> None:
        assert classifier.scores([]).shape == (0,)

    def test_a_score_belongs_to_its_snippet(self, classifier: ScorerLike) -> None:
        """Alone, in a batch or in another order: the same."""
        together = classifier.scores(self.snippets)
        assert self.close(classifier.scores(self.snippets[::-1])[::-1], together)
        assert self.close([classifier.scores([snippet])[0] for snippet in self.snippets], together)

    def test_scoring_leaves_no_trace(self, classifier: ScorerLike) -> None:
        before = classifier.scores(self.snippets)
        assert np.array_equal(classifier.scores(self.snippets), before)

    def test_source_and_meta_do_not_count(self, classifier: ScorerLike) -> None:
        bare = self.snippets[:1]
        dressed = [Snippet(s.prompt, s.completion, source="a book", meta={"injury": True}) for s in bare]
        assert self.close(classifier.scores(dressed), classifier.scores(bare))

    def test_odd_texts_get_a_score_or_nan(self, classifier: ScorerLike) -> None:
        """Or an error; a filter turns both into a rejection. Never a number outside [0, 1]."""
        for text in ("", " ", "é✓漢字🙂", "word " * 5000):
            try:
                score = classifier.scores([Snippet("Once.", text)])[0]
            except Exception:
                continue
            assert np.isnan(score) or 0.0 <= score <= 1.0

    def test_fit_returns_itself(self, classifier: ScorerLike) -> None:
        assert self._learner(classifier).fit(self.snippets, self.judgments()) is classifier

    def test_fit_forgets_the_past(self, classifier: ScorerLike) -> None:
        learner = self._learner(classifier)
        fresh = learner.fit(self.snippets, self.judgments()).scores(self.snippets)
        learner.fit(self.snippets[:4], self.judgments()[:4])
        again = learner.fit(self.snippets, self.judgments()).scores(self.snippets)
        assert self.close(again, fresh)

    def test_fit_refuses_what_does_not_pair_up(self, classifier: ScorerLike) -> None:
        learner = self._learner(classifier)
        empty: Sequence[Snippet] = []
        for snippets, judgments in ((self.snippets, self.judgments()[:-1]), (empty, [])):
            with pytest.raises(Exception, match=r"judgment|snippet|label"):
                learner.fit(snippets, judgments)

    def _learner(self, classifier: ScorerLike) -> ClassifierLike:
        if not self.learns:
            pytest.skip("this scorer does not learn")
        assert isinstance(classifier, ClassifierLike)
        return classifier
