"""What every store must keep to, as tests: subclass, give a fixture ``store`` that is empty, get them all.

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self):
        with MyStore() as store:
            yield store
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fivenines.errors import DataError, LabelError
from fivenines.records import Answer, Comparison, Label, Severity, Snippet
from fivenines.store.protocol import Draw, Progress, Store

__all__ = ["StoreContract"]

EARLY, LATE = "2026-01-01T10:00:00+00:00", "2026-01-01T11:00:00+00:00"


def _snippets(n: int, start: int = 0) -> list[Snippet]:
    return [Snippet(f"Prompt {i}.", f"Completion {i}.", source="book") for i in range(start, start + n)]


class StoreContract:
    """The contract of :class:`fivenines.store.protocol.Store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError("give a fixture `store`: an empty store")

    # Items

    def test_empty(self, store: Store) -> None:
        assert store.purposes() == []
        assert store.items("train") == []
        assert store.labels() == []
        assert store.comparisons() == []
        assert store.guidelines() == []
        assert store.counts("train") == Progress()
        assert store.next_item("ann", "train") is None
        assert store.add_items("train", []) == 0
        assert store.add_labels([]) == 0

    def test_items_come_back_as_they_were(self, store: Store) -> None:
        texts = ["", "ünïcödé 雪 🙂", "tab\tand\nline", "quote ' \" ; -- %s :x", "x" * 50_000]
        snippets = [Snippet(t, t[::-1] + ".", source=t[:20], meta={"stratum": 1, "t": t[:5]}) for t in texts]
        draw = Draw("all prompts", "by score", 0.25, 3.5)
        assert store.add_items("train", snippets, draw, labels_per_item=2) == len(texts)
        items = store.items("train")
        assert [item.snippet for item in items] == snippets
        assert [item.snippet.meta for item in items] == [s.meta for s in snippets]
        assert [item.snippet.source for item in items] == [s.source for s in snippets]
        assert {(item.draw, item.labels_needed, item.labelers) for item in items} == {(draw, 2, 0)}

    def test_adding_items_again_changes_nothing(self, store: Store) -> None:
        snippets = _snippets(3)
        assert store.add_items("train", [*snippets, snippets[0]], Draw("first")) == 3
        before = store.items("train"), store.counts("train")
        assert store.add_items("train", snippets[::-1], Draw("second", priority=9.0)) == 0
        assert (store.items("train"), store.counts("train")) == before

    def test_one_snippet_may_serve_two_purposes(self, store: Store) -> None:
        (snippet,) = _snippets(1)
        assert store.add_items("train", [snippet]) == 1
        store.add_labels([Label(snippet.id, "ann", Answer.OK)])
        assert store.add_items("calibrate", [snippet]) == 1
        assert store.purposes() == ["calibrate", "train"]
        assert store.counts("calibrate") == Progress(items=1, complete=1, needed=1, done=1)

    def test_draws_are_checked(self, store: Store) -> None:
        snippets = _snippets(2)
        with pytest.raises(DataError, match=r"draws must be one, or one for each of the 2 snippets, got 3"):
            store.add_items("train", snippets, [Draw()] * 3)
        for inclusion in (0.0, -0.5, 1.5, float("nan")):
            with pytest.raises(DataError, match=r"inclusion of snippet 1 must lie in \(0, 1\]"):
                store.add_items("train", snippets, Draw(inclusion=inclusion))
        with pytest.raises(DataError, match="priority of snippet 2 must be finite"):
            store.add_items("train", snippets, [Draw(), Draw(priority=float("inf"))])
        with pytest.raises(DataError, match="labels_per_item must be at least 1, got 0"):
            store.add_items("train", snippets, labels_per_item=0)
        with pytest.raises(DataError, match="snippet 1 must hold no NUL and no lone surrogate"):
            store.add_items("train", [Snippet("a\0b", "c")])
        with pytest.raises(DataError, match="snippet 1 must hold no NUL and no lone surrogate"):
            store.add_items("train", [Snippet("a", "c\udc00")])
        assert store.items("train") == []

    # Labels

    def test_labels_come_back_as_they_were(self, store: Store) -> None:
        one, two = _snippets(2)
        store.add_items("train", [one])
        store.add_items("calibrate", [two])
        given = [
            Label(one.id, "ann", Answer.FAILURE, Severity.CLEAR, EARLY, 4.5, False, "a broken arm"),
            Label(two.id, "bob", Answer.UNSURE, None, LATE, None, True, ""),
        ]
        assert store.add_labels(given) == 2
        came = store.labels()
        assert [(x.snippet_id, x.labeler, x.answer, x.severity) for x in came] == [
            (x.snippet_id, x.labeler, x.answer, x.severity) for x in given
        ]
        assert [(x.seconds, x.gold, x.note) for x in came] == [(x.seconds, x.gold, x.note) for x in given]
        assert [x.at[:19] for x in came] == [x.at[:19] for x in given]
        assert store.labels("calibrate") == came[1:]
        assert store.labels("unknown") == []

    def test_importing_labels_again_changes_nothing(self, store: Store) -> None:
        snippets = _snippets(3)
        store.add_items("train", snippets)
        labels = [
            Label(s.id, "ann", Answer.OK, at=at) for s, at in zip(snippets, ("", EARLY, LATE), strict=True)
        ]
        assert store.add_labels([*labels, labels[1]]) == 3
        before = store.labels(), store.counts("train")
        assert store.add_labels(labels) == 0
        assert store.add_labels(before[0]) == 0
        assert (store.labels(), store.counts("train")) == before

    def test_one_time_in_two_notations_is_one_time(self, store: Store) -> None:
        (snippet,) = _snippets(1)
        store.add_items("train", [snippet])
        for at in ("2026-01-01T10:00:00Z", "2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00"):
            store.add_labels([Label(snippet.id, "ann", Answer.OK, at=at)])
        assert len(store.labels()) == 1

    def test_a_correction_keeps_both(self, store: Store) -> None:
        (snippet,) = _snippets(1)
        store.add_items("train", [snippet])
        answers = [Answer.FAILURE, Answer.OK, Answer.FAILURE]  # changed, and changed back
        for answer in answers:
            store.add_labels([Label(snippet.id, "ann", answer)])
        assert [label.answer for label in store.labels()] == answers
        assert [label.at for label in store.labels()] == sorted(label.at for label in store.labels())
        assert store.counts("train").done == 1

    def test_labels_of_several_people_are_kept(self, store: Store) -> None:
        (snippet,) = _snippets(1)
        store.add_items("train", [snippet], labels_per_item=2)
        store.add_labels([Label(snippet.id, who, Answer.OK) for who in ("ann", "bob", "cy")])
        assert len(store.labels("train")) == 3
        assert store.counts("train") == Progress(items=1, complete=1, needed=2, done=2)
        assert store.items("train")[0].labelers == 3

    def test_an_import_is_whole_or_absent(self, store: Store) -> None:
        snippets = _snippets(1200)  # more than are written at once
        store.add_items("train", snippets)
        labels = [Label(s.id, "ann", Answer.OK) for s in snippets]
        labels[1100] = Label("snippet:unknown", "ann", Answer.OK)
        with pytest.raises(
            LabelError, match=r"snippet of label 1101 must be known to the store, got snippet:unknown"
        ):
            store.add_labels(labels)
        with pytest.raises(LabelError, match=r"snippet of label on line 7 must be known"):
            store.add_labels([labels[0], labels[1100]], lines=[3, 7])
        assert store.labels() == []
        assert store.counts("train").done == 0

    @pytest.mark.parametrize("together", [True, False])
    def test_contradictory_gold_is_refused(self, store: Store, together: bool) -> None:
        (snippet,) = _snippets(1)
        store.add_items("train", [snippet])
        first = Label(snippet.id, "ann", Answer.FAILURE, gold=True, at=EARLY)
        other = Label(snippet.id, "bob", Answer.OK, gold=True, at=LATE)
        if not together:
            store.add_labels([first])
        with pytest.raises(
            LabelError, match=r"must agree with the gold answer of .*, failure of ann, got ok of bob"
        ):
            store.add_labels([first, other] if together else [other])
        assert len(store.labels()) == (0 if together else 1)
        store.add_labels([Label(snippet.id, "bob", Answer.OK, at=LATE)])  # not gold: no contradiction
        store.add_labels([first, Label(snippet.id, "ann", Answer.OK, gold=True, at=LATE)])  # corrects oneself
        assert len(store.labels()) == 3

    def test_labels_are_checked(self, store: Store) -> None:
        (snippet,) = _snippets(1)
        store.add_items("train", [snippet])
        with pytest.raises(LabelError, match="label 1 must name its labeler"):
            store.add_labels([Label(snippet.id, "", Answer.OK)])
        with pytest.raises(LabelError, match="time of label 1 must be ISO 8601, got yesterday"):
            store.add_labels([Label(snippet.id, "ann", Answer.OK, at="yesterday")])
        assert store.labels() == []

    # The queue

    def test_the_queue_goes_by_priority_then_by_order(self, store: Store) -> None:
        snippets = _snippets(4)
        store.add_items("train", snippets, [Draw(priority=p) for p in (0.0, 5.0, 0.0, 7.0)])
        order = []
        while (item := store.next_item("ann", "train")) is not None:
            order.append(snippets.index(item.snippet))
            store.add_labels([Label(item.snippet.id, "ann", Answer.UNSURE)])
        assert order == [3, 1, 0, 2]
        assert store.counts("train") == Progress(items=4, complete=4, needed=4, done=4)

    def test_who_asks_again_gets_the_same(self, store: Store) -> None:
        store.add_items("train", _snippets(3))
        first = store.next_item("ann", "train")
        assert first is not None
        assert store.next_item("ann", "train") == first

    def test_two_people_never_get_the_same_single_item(self, store: Store) -> None:
        store.add_items("train", _snippets(3))
        given = [store.next_item(who, "train") for who in ("ann", "bob", "cy", "dee")]
        assert given[3] is None
        assert len({item.snippet.id for item in given if item is not None}) == 3

    def test_each_item_gets_as_many_people_as_it_needs(self, store: Store) -> None:
        store.add_items("train", _snippets(2), labels_per_item=2)
        given = [store.next_item(who, "train") for who in ("ann", "bob", "cy", "dee", "eve")]
        assert [item and item.snippet.prompt for item in given] == ["Prompt 0."] * 2 + ["Prompt 1."] * 2 + [
            None
        ]

    def test_nobody_gets_what_they_have_labelled(self, store: Store) -> None:
        snippets = _snippets(3)
        store.add_items("train", snippets, labels_per_item=2)
        store.add_labels([Label(s.id, "ann", Answer.OK) for s in snippets[:2]])
        item = store.next_item("ann", "train")
        assert item is not None
        assert item.snippet == snippets[2]
        store.add_labels([Label(snippets[2].id, "ann", Answer.OK)])
        assert store.next_item("ann", "train") is None
        assert store.next_item("bob", "train") is not None

    def test_later_items_of_higher_priority_come_first(self, store: Store) -> None:
        store.add_items("train", _snippets(3), labels_per_item=2)
        store.add_labels([Label(s.id, "ann", Answer.OK) for s in _snippets(3)])
        assert store.next_item("ann", "train") is None
        (urgent,) = _snippets(1, start=9)
        store.add_items("train", [urgent], Draw(priority=1.0))
        item = store.next_item("ann", "train")
        assert item is not None
        assert item.snippet == urgent

    def test_more_labels_can_be_asked_for(self, store: Store) -> None:
        snippets = _snippets(2)
        store.add_items("train", snippets)
        store.add_labels([Label(s.id, "ann", Answer.OK) for s in snippets])
        assert store.next_item("bob", "train") is None
        store.add_items("train", snippets, labels_per_item=2)
        assert store.counts("train") == Progress(items=2, complete=0, needed=4, done=2)
        item = store.next_item("bob", "train")
        assert item is not None
        assert item.snippet == snippets[0]
        assert store.next_item("ann", "train") is None

    # Comparisons and guidelines

    def test_comparisons(self, store: Store) -> None:
        given = [
            Comparison("p", "a", "b", "ann", "left", EARLY, 3.0),
            Comparison("p", "b", "a", "bob", "tie"),
            Comparison("q", "a", "b", "ann", "right"),
        ]
        assert store.add_comparisons("quality", given) == 3
        assert store.add_comparisons("quality", given) == 0
        assert store.add_comparisons("other", given[:1]) == 1
        came = store.comparisons("quality")
        assert [(c.prompt, c.left, c.right, c.rater, c.preferred, c.seconds) for c in came] == [
            (c.prompt, c.left, c.right, c.rater, c.preferred, c.seconds) for c in given
        ]
        assert all(c.at for c in came)
        assert len(store.comparisons()) == 4
        assert (
            store.add_comparisons("quality", [Comparison("p", "b", "a", "bob", "left")]) == 1
        )  # a correction
        with pytest.raises(LabelError, match="comparison on line 12 must name its rater"):
            store.add_comparisons("quality", [given[0], Comparison("p", "a", "b", "", "tie")], lines=[11, 12])
        assert len(store.comparisons("quality")) == 4

    def test_what_was_said_has_a_hash(self, store: Store) -> None:
        one, other = _snippets(2)
        store.add_items("train", [one, other])
        store.add_items("test", [other])
        hashes = [store.said("train"), store.said("test")]
        labels = [Label(s.id, "ann", Answer.OK, at=EARLY) for s in (one, other)]
        store.add_labels(labels[:1])
        assert store.said("test") == hashes[1]  # nobody has spoken of its item
        hashes.append(store.said("train"))
        store.add_labels(labels)
        hashes += [store.said("train"), store.said("test")]
        store.add_labels(labels)  # known already
        assert [store.said("train"), store.said("test")] == hashes[-2:]
        store.add_comparisons("train", [Comparison("p", "a", "b", "ann", "left")])
        hashes.append(store.said("train"))
        assert len(set(hashes)) == len(hashes) - 1  # nothing said is the same in both purposes

    def test_guidelines_have_versions(self, store: Store) -> None:
        first = store.add_guidelines("Injuries count.", "ann")
        assert store.add_guidelines("Injuries count.", "bob") == first
        second = store.add_guidelines("Injuries of animals count too.", "bob")
        assert (first.version, second.version) == (1, 2)
        assert store.guidelines() == [first, second]
