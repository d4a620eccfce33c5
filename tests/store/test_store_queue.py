"""The queue against a slow and plain one, over random histories."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.records import Answer, Label, Snippet
from fivenines.store import Draw, Progress, SQLStore

PEOPLE = ("ann", "bob", "cy")


class PlainQueue:
    """What the queue must do, by looking at everything each time."""

    def __init__(self) -> None:
        self.items: list[tuple[float, int, str, int]] = []  # (urgency, order, snippet id, labels needed)
        self.labelled: set[tuple[str, str]] = set()
        self.held: set[tuple[str, str]] = set()

    def add(self, snippet: Snippet, priority: float, needed: int) -> None:
        for place, (urgency, order, known, before) in enumerate(self.items):
            if known == snippet.id:
                self.items[place] = (urgency, order, known, max(before, needed))
                return
        self.items.append((-priority, len(self.items), snippet.id, needed))

    def label(self, snippet_id: str, who: str) -> None:
        self.labelled.add((snippet_id, who))
        self.held.discard((snippet_id, who))

    def next(self, who: str) -> str | None:
        mine = [item for item in sorted(self.items) if self.open_to(item, who)]
        for _, _, snippet_id, _ in mine:
            if (snippet_id, who) in self.held:
                return snippet_id
        for _, _, snippet_id, needed in mine:
            others = sum(s == snippet_id for s, w in self.held if w != who)
            if self.labelers(snippet_id) + others < needed:
                self.held.add((snippet_id, who))
                return snippet_id
        return None

    def open_to(self, item: tuple[float, int, str, int], who: str) -> bool:
        return (item[2], who) not in self.labelled and self.labelers(item[2]) < item[3]

    def labelers(self, snippet_id: str) -> int:
        return sum(s == snippet_id for s, _ in self.labelled)

    def progress(self) -> Progress:
        pairs = [(self.labelers(snippet_id), needed) for _, _, snippet_id, needed in self.items]
        complete = sum(have >= needed for have, needed in pairs)
        done = sum(min(have, needed) for have, needed in pairs)
        return Progress(len(pairs), complete, sum(needed for _, needed in pairs), done)


ask = st.tuples(st.just("ask"), st.sampled_from(PEOPLE))
answer = st.tuples(st.just("answer"), st.sampled_from(PEOPLE))
imported = st.tuples(st.just("import"), st.sampled_from(PEOPLE), st.lists(st.integers(0, 11), max_size=6))
added = st.tuples(
    st.just("add"),
    st.lists(st.integers(0, 11), min_size=1, max_size=6),
    st.integers(-1, 2),
    st.integers(1, 3),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(ask, answer, imported, added), min_size=5, max_size=20))
def test_the_queue_agrees_with_a_plain_one(history: list[tuple[str, ...]]) -> None:
    plain = PlainQueue()
    known: set[str] = set()
    with SQLStore("sqlite://") as store:
        snippets = [Snippet(f"p{i}", "c") for i in range(12)]
        for step in history:
            run(store, plain, known, snippets, step)
            assert store.counts("train") == plain.progress()
        for who in PEOPLE:
            item = store.next_item(who, "train")
            assert (item and item.snippet.id) == plain.next(who)


def run(store: SQLStore, plain: PlainQueue, known: set[str], snippets: list[Snippet], step: tuple) -> None:  # type: ignore[type-arg]
    if step[0] == "add":
        _, which, priority, needed = step
        chosen = [snippets[i] for i in which]
        store.add_items("train", chosen, Draw(priority=float(priority)), labels_per_item=needed)
        for snippet in chosen:
            plain.add(snippet, float(priority), needed)
            known.add(snippet.id)
    elif step[0] == "import":
        _, who, which = step
        ids = [snippets[i].id for i in which if snippets[i].id in known]
        store.add_labels([Label(snippet_id, who, Answer.OK) for snippet_id in ids])
        for snippet_id in ids:
            plain.label(snippet_id, who)
    else:
        item = store.next_item(step[1], "train")
        assert (item and item.snippet.id) == plain.next(step[1])
        if item is not None and step[0] == "answer":
            store.add_labels([Label(item.snippet.id, step[1], Answer.OK)])
            plain.label(item.snippet.id, step[1])


def test_a_reservation_ends(address: str) -> None:
    with SQLStore(address, lease_seconds=0.0) as store:
        store.add_items("train", [Snippet("p", "c"), Snippet("q", "c")])
        assert [store.next_item(who, "train") for who in PEOPLE] == [store.next_item("eve", "train")] * 3
        store.lease_seconds = 600.0
        first, second = store.next_item("ann", "train"), store.next_item("bob", "train")
        assert first is not None
        assert second is not None
        assert first != second


def test_what_was_passed_while_held_comes_back(address: str) -> None:
    """Bob holds the first item while Ann labels the rest; when he lets it go, she is asked for it."""
    snippets = [Snippet(f"p{i}", "c") for i in range(5)]
    with SQLStore(address, lease_seconds=0.2) as store:
        store.add_items("train", snippets)
        assert store.next_item("bob", "train") is not None
        store.add_labels([Label(s.id, "ann", Answer.OK) for s in snippets[1:]])
        threading.Event().wait(0.25)
        item = store.next_item("ann", "train")
        assert item is not None
        assert item.snippet == snippets[0]


def test_threads_share_a_store(address: str) -> None:
    snippets = [Snippet(f"p{i}", "c") for i in range(40)]
    with SQLStore(address) as store:
        store.add_items("train", snippets)
        given: list[str] = []

        def person(who: str) -> None:
            while (item := store.next_item(who, "train")) is not None:
                given.append(item.snippet.id)
                store.add_labels([Label(item.snippet.id, who, Answer.OK)])

        threads = [threading.Thread(target=person, args=(f"person {i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(given) == sorted(s.id for s in snippets)
        assert store.counts("train").complete == 40


def test_memory_is_shared_by_threads(tmp_path: Path) -> None:
    test_threads_share_a_store("sqlite://")
