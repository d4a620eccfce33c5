"""Judges behind HTTP: a real server on this machine."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from conditional.tagging.http_server import Answer, chat, saying, serving
from fivenines.conditional.tagging.asking import Asking
from fivenines.conditional.tagging.judging import ChatScorer, HttpScorer, asks_a_server
from fivenines.conditional.tagging.making import make_scorer
from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.errors import ConfigError, ModelError

QUICK = Asking(timeout=5, tries=3, pause=0.01, at_once=4, patience=3)
TEMPLATE = 'Before: {context}\nIs this violent? {segment}\nAnswer {"yes"} or no.'
WORDS = {"yes": 1.0, "No": 0.0}


def cut(text: str) -> SpannedText:
    return SpannedText(text, segments(text, "sentences"))


def violence(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
    question = content["messages"][0]["content"].split("violent? ")[1]
    return 200, chat(" YES\n" if "hit" in question else "no")


def test_a_chat_model_is_asked_the_persons_question() -> None:
    asked: list[dict[str, Any]] = []

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        assert path == "/v1/chat/completions"
        asked.append(content)
        return violence(path, content, headers)

    with serving(handle) as address:
        scorer = ChatScorer(
            f"{address}/v1/", "m", TEMPLATE, answers=WORDS, context=1, extra={"max_tokens": 3}, asking=QUICK
        )
        found = scorer.score(
            [cut("She hit him. He cried {segment}. Rain fell."), cut(""), cut("They hit it.")]
        )
    assert [scores.tolist() for scores in found] == [[1, 0, 0], [], [1]]
    questions = {content["messages"][0]["content"] for content in asked}
    assert 'Before: She hit him.\nIs this violent? He cried {segment}.\nAnswer {"yes"} or no.' in questions
    assert asked[0] | {"messages": []} == {"model": "m", "messages": [], "temperature": 0, "max_tokens": 3}
    assert scorer.counts() == {"requests": 4}


def test_an_answer_in_another_form_is_no_score() -> None:
    answers = iter(["yes, clearly", "0.7", "", "1.5", "nan", "-1", "0.25", "1e-3"])
    lock = threading.Lock()

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        with lock:
            return 200, chat(next(answers))

    one = Asking(timeout=5, tries=1, pause=0, at_once=1)
    with serving(handle) as address:
        scorer = ChatScorer(address, "m", "{segment}", asking=one)
        scores = scorer.score([cut("Rain fell. " * 8)])[0]
    np.testing.assert_array_equal(scores, [np.nan, 0.7, np.nan, np.nan, np.nan, np.nan, 0.25, np.nan])
    assert scorer.counts()["answers in no form"] == 6


def test_replies_of_another_shape_are_no_score() -> None:
    replies = iter(
        [{"choices": []}, [], {"error": "x"}, b"<html>", {"choices": [{"message": {"content": None}}]}]
    )

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        return 200, next(replies)

    one = Asking(timeout=5, tries=1, pause=0, at_once=1)
    with serving(handle) as address:
        scores = ChatScorer(address, "m", "{segment}", asking=one).score([cut("Rain fell. " * 5)])[0]
    assert np.isnan(scores).all()


@pytest.mark.parametrize("answers", [{"none": 0.0}, {"": 0.0}, {}])
def test_an_answer_that_is_no_text_is_no_score(answers: dict[str, float]) -> None:
    contents = iter([None, 0, ["none"]])

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        return 200, {"choices": [{"message": {"content": next(contents)}}]}

    one = Asking(timeout=5, tries=1, pause=0, at_once=1)
    with serving(handle) as address:
        scorer = ChatScorer(address, "m", "{segment}", answers=answers, asking=one)
        assert np.isnan(scorer.score([cut("Rain fell. " * 3)])[0]).all()
    assert scorer.counts()["answers in no form"] == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"sc', "IncompleteRead"),
        (b"what?\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000, "RecursionError"),
    ],
)
def test_half_an_answer_is_asked_for_again_and_given_up(reply: bytes, reason: str) -> None:
    asking = Asking(timeout=5, tries=2, pause=0, at_once=1, patience=2)
    with saying(reply) as address:
        scorer = HttpScorer(address, asking=asking)
        assert np.isnan(scorer.score([cut("Rain fell.")])[0]).all()
        assert scorer.counts() == {"requests": 2, "retries": 1, "failed": 1}
        with pytest.raises(ModelError, match=rf"2 requests in a row without an answer, the last: {reason}"):
            scorer.score([cut("Rain fell.")])


def test_a_score_that_no_float_holds_is_no_score() -> None:
    with serving(lambda path, content, headers: (200, {"scores": [10**400]})) as address:
        scorer = HttpScorer(address, asking=QUICK)
        assert np.isnan(scorer.score([cut("Rain fell.")])[0]).all()
    assert scorer.counts() == {"requests": 1, "answers in no form": 1}


def test_it_asks_again_when_the_server_is_busy() -> None:
    tries: Counter[str] = Counter()
    lock = threading.Lock()

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        question = content["messages"][0]["content"]
        with lock:
            tries[question] += 1
        if "Always" in question:
            return 500, {"error": "sorry"}
        return (violence(path, content, headers)) if tries[question] > 2 else (429, {})

    with serving(handle) as address:
        scorer = ChatScorer(address, "m", TEMPLATE, answers=WORDS, context=0, asking=QUICK)
        scores = scorer.score([cut("She hit him. Always failing. It rained.")])[0]
    np.testing.assert_array_equal(scores, [1, np.nan, 0])  # never 0 for what was not answered
    assert scorer.counts() == {"requests": 9, "retries": 6, "failed": 1}


def test_what_the_server_cannot_take_is_not_asked_again() -> None:
    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        return (400, {"error": "too long"}) if "long" in str(content) else (200, chat("no"))

    with serving(handle) as address:
        scorer = ChatScorer(address, "m", "{segment}", answers=WORDS, asking=QUICK)
        np.testing.assert_array_equal(scorer.score([cut("So long. So short.")])[0], [np.nan, 0])
        assert scorer.counts() == {"requests": 2, "failed": 1}


def test_a_server_that_refuses_or_is_gone_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret-1")
    keys = []

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        keys.append(headers["Authorization"])
        return 401, {}

    with serving(handle) as address:
        scorer = ChatScorer(address, "m", "{segment}", asking=Asking(key_env="JUDGE_KEY", tries=2, pause=0))
        with pytest.raises(ModelError, match=r"must take requests, got HTTP 401 \(not known\)"):
            scorer.score([cut("Rain fell. " * 2)])
    assert set(keys) == {"Bearer secret-1"}
    assert "secret-1" not in repr(scorer) + str(scorer.describe()) + str(pickle.dumps(scorer))
    gone = ChatScorer(address, "m", "{segment}", asking=QUICK)  # nobody listens there any more
    with pytest.raises(ModelError, match=r"must answer, got [345] requests in a row without an answer"):
        gone.score([cut("Rain fell. " * 5)])
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ConfigError, match="JUDGE_KEY must hold the key"):
        scorer.score([cut("Rain fell.")])


def test_a_server_that_takes_too_long_gives_no_score() -> None:
    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        if "slow" in str(content):
            time.sleep(1.0)
        return 200, {"scores": [0.5] * len(content["items"])}

    with serving(handle) as address:
        scorer = HttpScorer(address, context=0, batch=1, asking=Asking(timeout=0.3, tries=1, patience=9))
        np.testing.assert_array_equal(scorer.score([cut("Be slow. Be quick.")])[0], [np.nan, 0.5])


def test_a_plain_scorer_takes_many_at_a_time() -> None:
    sizes = []

    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        sizes.append(len(content["items"]))
        if any("strange" in item["segment"] for item in content["items"]):
            return 200, {"scores": [0.1]}
        scores = [None if "none" in item["segment"] else len(item["context"]) for item in content["items"]]
        return 200, {"scores": scores}

    with serving(handle) as address:
        scorer = HttpScorer(f"{address}/score", context=2, batch=2, asking=QUICK)
        scores = scorer.score([cut("One. Is none. Three. Four. Strange strange. Six.")])[0]
        some = scorer.score([SpannedText("One. Two.", ((0, 4), (5, 9)), wanted=(False, True))])[0]
    np.testing.assert_array_equal(scores, [0, np.nan, 13, 15, np.nan, np.nan])
    np.testing.assert_array_equal(some, [np.nan, 4])
    assert sorted(sizes) == [1, 2, 2, 2]
    assert scorer.counts() == {"requests": 4, "answers in no form": 2}


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"template must have \{segment\} in it"):
        ChatScorer("http://x", "m", "Is it?")
    with pytest.raises(ConfigError, match="url must begin with http"):
        HttpScorer("localhost:80")
    with pytest.raises(ConfigError, match="answers must map different answers"):
        ChatScorer("http://x", "m", "{segment}", answers={"yes": 1, "YES": 0})
    with pytest.raises(ConfigError, match="tries must be at least 1"):
        Asking(tries=0)


def test_a_judge_is_known_by_what_it_is_asked_and_survives_copies() -> None:
    scorer = ChatScorer("http://x", "m", TEMPLATE, answers=WORDS, asking=QUICK)
    assert pickle.loads(pickle.dumps(scorer)) == copy.deepcopy(scorer) == scorer
    assert scorer.version == ChatScorer("http://x", "m", TEMPLATE, answers=WORDS).version
    assert scorer.version != ChatScorer("http://x", "m2", TEMPLATE, answers=WORDS).version
    table = {"kind": "chat", "url": "http://x", "model": "m", "template": TEMPLATE, "answers": WORDS}
    assert make_scorer({**table, "asking": {"tries": 3}}).version == scorer.version
    assert asks_a_server(scorer)
    assert not asks_a_server(RegexScorer("a"))
