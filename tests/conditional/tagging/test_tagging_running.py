"""Whole runs through datatrove: real files, real processes, real kills."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fivenines.conditional.tagging import places, running
from fivenines.conditional.tagging.classifying import ClassifierScorer
from fivenines.conditional.tagging.making import scorers_from
from fivenines.conditional.tagging.places import Piece
from fivenines.conditional.tagging.reading import read_marked
from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.running import Run, TaggingSettings, Workers, forecast, start, tag_corpus
from fivenines.conditional.tagging.scorers import Scores, SpanScorer, folder_version
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.conditional.tagging.writing import Format
from fivenines.data.windows import windows
from fivenines.errors import ConfigError, DataError, LockedError, ModelError, ScoringError
from fivenines.models.classifier import Classifier
from fivenines.records import Snippet
from fivenines.store.lock import TaskLock
from small_classifier import HARMS, TRAINING, WORDS, an_encoder, task

ODD = ["", " \n", "שלום עולם. מה שלומך? 🙂", "👩‍👩‍👧‍👦 came. 😂!", "no end", "\u2028\u2029"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder that learnt to find harms, saved."""
    folder = tmp_path_factory.mktemp("classifier") / "model"
    an_encoder().fit(*task(90), training=TRAINING).save(folder)
    return folder


def stories(count: int, seed: int = 0) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        words = [list(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(rng.integers(1, 9))]
        for sentence in words:
            if rng.random() < 0.3:
                sentence.append(str(rng.choice(HARMS)))
        text = " ".join(f"{' '.join(sentence)}.".capitalize() for sentence in words)
        found.append({"text": ODD[i // 10 % len(ODD)] if i % 10 == 9 else text, "place": str(i)})
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in stories(200)), encoding="utf-8")
    return path


def parts(out: Path) -> dict[str, str]:
    """Every file of the marked corpus, by a hash of what it holds."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("part-*"))}


def tagged(inputs: Sequence[Path], out: Path, scorers: Sequence[SpanScorer], **settings: object) -> Run:
    run = start(inputs, out, scorers, TaggingSettings(**{"shard_mb": 0.004, **settings}))  # type: ignore[arg-type]
    tag_corpus(run)
    return run


@dataclass(frozen=True)
class Failing:
    """Stops at a document."""

    at: str
    error: type[Exception] = ModelError
    name: str = "regex"
    version: str = RegexScorer("a").version

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        if any(text.meta.get("place") == self.at for text in texts):
            raise self.error("it stops here")
        return RegexScorer("a").score(texts)


def test_a_classifier_marks_a_corpus_as_it_learnt_to_read(
    corpus: Path, tmp_path: Path, classifier: Path
) -> None:
    scorer = ClassifierScorer(str(classifier))
    run = tagged([corpus], tmp_path / "out", [scorer])
    assert run.shards > 3
    found = list(read_marked([tmp_path / "out"]))
    rows = stories(200)
    assert [text.text for text in found] == [row["text"] for row in rows]
    assert [text.id for text in found] == [f"corpus.jsonl#{i}" for i in range(1, 201)]
    assert [text.meta["place"] for text in found] == [row["place"] for row in rows]

    model = Classifier.load(classifier)
    checked = 0
    for text in found:
        marks = text.by("classifier")
        assert marks.spans == segments(text.text, "sentences")
        snippets = list(windows(text.text, 3, stride=1, words=(1, 1000)))
        if len(snippets) == len(marks.spans) - 3 > 0:  # no window was left out
            np.testing.assert_allclose(model.scores(snippets), np.array(marks.scores[3:]), atol=1e-5)
            checked += len(snippets)
        if marks.spans and text.text[slice(*marks.spans[0])].strip():
            first = model.scores([Snippet("", " ".join(text.text[slice(*marks.spans[0])].split()))])[0]
            assert marks.scores[0] == pytest.approx(first, abs=1e-5)
    assert checked > 100
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["documents"] == 200
    counted = manifest["marks"]["classifier"]
    assert (
        counted["segments"]
        == sum(len(text.by("classifier").spans) for text in found)
        == sum(counted["bands"])
    )
    assert counted["version"] == scorer.version
    assert manifest["scorers"][0]["classifier"] == str(classifier)


def test_the_version_is_of_the_files(classifier: Path, tmp_path: Path) -> None:
    version = ClassifierScorer(str(classifier)).version
    assert version == ClassifierScorer(str(classifier), name="other").version
    assert version != ClassifierScorer(str(classifier), context=2).version
    before = folder_version(classifier)
    card = classifier / "fivenines.json"
    content = card.read_text()
    card.write_text(content.replace("}", " }", 1))
    assert folder_version(classifier) != before
    card.write_text(content)
    assert folder_version(classifier) == before
    with pytest.raises(ModelError, match=r"model folder .*none must exist"):
        ClassifierScorer(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="version must be given"):
        ClassifierScorer(Classifier.load(classifier))


class Lengths:
    """P(failure): words of the prompt in hundreds; none for a completion that says so."""

    def scores(self, snippets: Sequence[Snippet]) -> Scores:
        return np.array(
            [np.nan if "unreadable" in s.completion else len(s.prompt.split()) / 100 for s in snippets],
            dtype=float,
        )


def test_contexts_and_what_cannot_be_scored() -> None:
    def scores(text: str, unit: str = "sentences", **settings: object) -> list[float]:
        scorer = ClassifierScorer(Lengths(), version="1", **settings)  # type: ignore[arg-type]
        cut = SpannedText(text, segments(text, unit), unit)  # type: ignore[arg-type]
        return [round(float(score), 2) for score in scorer.score([cut])[0]]

    text = "One two. Three\nfour five.  Six. Seven. Eight."
    assert scores(text) == [0, 0.02, 0.05, 0.06, 0.05]
    assert scores(text, context=1) == [0, 0.02, 0.03, 0.01, 0.01]
    assert np.isnan(scores(text, first="leave")[:3]).all()
    assert scores(text, first="leave")[3:] == [0.06, 0.05]
    np.testing.assert_array_equal(scores("A lot. It is unreadable. The end."), [0, np.nan, 0.05])
    assert scores(text, "document") == [0.06]
    assert np.isnan(scores("A lot. It is unreadable.", "document")).all()  # the worst is not known
    assert scores(" \n", "document") == []
    np.testing.assert_array_equal(scores("a b\n\n  c d\n  \ne", "lines"), [0, 0.02, np.nan, 0.04])


def test_lines_are_read_as_they_stand() -> None:
    seen: list[Snippet] = []

    class Seeing:
        def scores(self, snippets: Sequence[Snippet]) -> Scores:
            seen.extend(snippets)
            return np.zeros(len(snippets))

    text = "def f():\n    x = 1\n\n    return x\n"
    ClassifierScorer(Seeing(), version="1", context=2).score(
        [SpannedText(text, segments(text, "lines"), "lines")]
    )
    assert seen[-1] == Snippet("def f():\n    x = 1", "    return x")


def test_a_scorer_that_is_broken_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        value: float
        name: str = "wrong"
        version: str = "1"

        def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
            return [np.full(len(text.spans) + (self.value == 7), self.value) for text in texts]

    for value, message in (
        (-1.0, "must give scores of at least 0"),
        (np.inf, "got inf"),
        (7.0, "must give a score for"),
    ):
        with pytest.raises(ScoringError, match=message):
            tagged([corpus], tmp_path / f"out{value}", [Wrong(value)])
    run = tagged([corpus], tmp_path / "nan", [Wrong(np.nan)])
    assert json.loads((run.out / "manifest.json").read_text())["marks"]["wrong"]["unscored"] > 500
    assert {score for text in read_marked([run.out]) for score in text.by("wrong").scores} == {None}


def test_a_second_scorer_keeps_the_marks_of_the_first(corpus: Path, tmp_path: Path) -> None:
    first = tagged([corpus], tmp_path / "first", [RegexScorer("bleeds", name="a")], form="jsonl.gz")
    second = tagged([first.out], tmp_path / "second", scorers_from(["b=regex:cuts", "pii"]), form="parquet")
    third = tagged([second.out], tmp_path / "third", [RegexScorer("cuts", name="a")], form="jsonl.zst")
    before, after, last = (list(read_marked([run.out])) for run in (first, second, third))
    assert len(before) == len(after) == len(last) == 200
    for one, two, three in zip(before, after, last, strict=True):
        assert (
            (one.text, one.id, one.meta) == (two.text, two.id, two.meta) == (three.text, three.id, three.meta)
        )
        assert one.by("a") == two.by("a")
        assert [marks.scorer for marks in two.marks] == ["a", "b", "pii"]
        assert three.by("a").scores == two.by("b").scores  # marked anew under the same name
        assert three.by("a").version != two.by("a").version


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_stopped_anywhere_the_result_is_the_same(form: Format, corpus: Path, tmp_path: Path) -> None:
    whole = tagged([corpus], tmp_path / "whole", [RegexScorer("a")], form=form)
    with pytest.raises(ModelError, match="it stops here"):
        tagged([corpus], tmp_path / "out", [Failing("77")], form=form)
    run = start([corpus], tmp_path / "out", [RegexScorer("a")], TaggingSettings(shard_mb=0.004, form=form))
    assert 0 < len(run.done) < run.shards
    assert not (run.out / "manifest.json").exists()
    done = {name: (run.out / name).stat().st_mtime_ns for name in parts(run.out)}
    assert forecast(run, try_it=False).shards_left == run.shards - len(run.done)
    tag_corpus(run)
    assert parts(run.out) == parts(whole.out)
    assert {name: (run.out / name).stat().st_mtime_ns for name in done} == done  # not touched again
    (run.out / "part-00001").with_suffix(f".{form}").unlink()
    tag_corpus(run)  # a shard that somebody deleted is made again
    assert parts(run.out) == parts(whole.out)
    one, two = (json.loads((folder / "manifest.json").read_text()) for folder in (whole.out, run.out))
    assert one == two


@pytest.mark.slow
def test_several_workers_give_the_same(corpus: Path, tmp_path: Path, classifier: Path) -> None:
    scorers: list[SpanScorer] = [ClassifierScorer(str(classifier)), RegexScorer("bleeds")]
    whole = tagged([corpus], tmp_path / "one", scorers)
    run = start([corpus], tmp_path / "two", scorers, TaggingSettings(shard_mb=0.004))
    tag_corpus(run, Workers(2, threads=torch.get_num_threads()))  # the last bits of a score depend on them
    assert parts(run.out) == parts(whole.out)


def test_an_error_in_a_worker_arrives_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' * 500 + b'{"text": broken}\n' + b'{"text": "fine"}\n' * 500)
    run = start([path], tmp_path / "out", [RegexScorer("a")], TaggingSettings(shard_mb=0.005))
    with pytest.raises(
        DataError, match=r"line 501 must be JSON .* Mend it, or skip such lines: --bad skip\."
    ):
        tag_corpus(run, Workers(2))
    skipping = TaggingSettings(shard_mb=0.005, bad="skip")
    manifest = tag_corpus(start([path], tmp_path / "out", [RegexScorer("a")], skipping))
    assert manifest is not None
    assert manifest["documents"] == 1000
    assert manifest["broken lines"]["count"] == 1
    assert "line 501 must be JSON" in manifest["broken lines"]["first"][0]


def test_too_many_broken_lines_over_all_shards(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((b'{"text": "fine"}\n' * 400 + b"{\n") * 4)
    few = TaggingSettings(shard_mb=0.005, bad="skip", max_bad=3)
    with pytest.raises(
        DataError, match=r"broken lines must be at most 3, got 4\. The first: .*line 401 must be JSON"
    ):
        tag_corpus(start([path], tmp_path / "out", [RegexScorer("a")], few))
    more = TaggingSettings(shard_mb=0.005, bad="skip", max_bad=4)  # goes on from there
    manifest = tag_corpus(start([path], tmp_path / "out", [RegexScorer("a")], more))
    assert manifest is not None
    assert manifest["broken lines"]["count"] == 4


def test_another_run_in_the_same_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    run = tagged([corpus], tmp_path / "out", [RegexScorer("a")])
    with pytest.raises(ConfigError, match=r"its scorers were others.*Give another folder"):
        tagged([corpus], run.out, [RegexScorer("b")])
    with pytest.raises(
        ConfigError, match="its settings were others, got segments 'sentences' then and 'lines' now"
    ):
        tagged([corpus], run.out, [RegexScorer("a")], segments="lines")
    with corpus.open("a") as handle:
        handle.write('{"text": "more"}\n')
    with pytest.raises(ConfigError, match="its inputs were others"):
        tagged([corpus], run.out, [RegexScorer("a")])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="must be a new folder, or one of a run before"):
        tagged([corpus], tmp_path / "full", [RegexScorer("a")])
    with pytest.raises(ConfigError, match="scorers must be one or more"):
        start([corpus], tmp_path / "none", [])
    with TaskLock(run.work), pytest.raises(LockedError, match="must be used by one run at a time"):
        tag_corpus(run)


def test_a_kill_before_there_is_a_plan_blocks_nothing(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "_work").mkdir(parents=True)
    (tmp_path / "out" / "_work" / ".plan.json.77.partial").write_text("half")
    run = tagged([corpus], tmp_path / "out", [RegexScorer("a")])
    assert len(list(read_marked([run.out]))) == 200


def test_only_one_of_two_processes_plans(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plan_shards = tmp_path / "out", places.plan_shards
    with TaskLock(out / "_work"), pytest.raises(LockedError, match="must be used by one run at a time"):
        start([corpus], out, [RegexScorer("a")])

    def slow(files: Sequence[Path], size: int) -> list[list[Piece]]:
        monkeypatch.undo()
        start([corpus], out, [RegexScorer("a")])  # another is faster
        return plan_shards(files, size)

    monkeypatch.setattr(running, "plan_shards", slow)
    with pytest.raises(ConfigError, match=r"its scorers were others"):
        start([corpus], out, [RegexScorer("b")])
    tag_corpus(start([corpus], out, [RegexScorer("a")]))


def test_settings_that_cannot_be() -> None:
    for settings, message in (
        ({"segments": "words"}, "segments must be one of"),
        ({"form": "csv"}, "format must be one of jsonl, jsonl.gz, jsonl.zst, parquet"),
        ({"shard_mb": 0}, "shard_mb must be greater than 0"),
        ({"bad": "maybe"}, "bad must be stop or skip"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaggingSettings(**settings)
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        Workers(0)


def test_an_executor_that_is_not_known(corpus: Path, tmp_path: Path) -> None:
    run = start([corpus], tmp_path / "out", [RegexScorer("a")])
    with pytest.raises(ConfigError, match="executor must be one of here, ray, slurm, got cloud"):
        tag_corpus(run, Workers(where="cloud"))
    with pytest.raises(
        ConfigError, match=r"options of slurm must be those of datatrove's executor, got .*partition"
    ):
        tag_corpus(run, Workers(where="slurm"))


def test_a_forecast_is_of_the_right_size(corpus: Path, tmp_path: Path) -> None:
    run = start([corpus], tmp_path / "out", [RegexScorer("a")], TaggingSettings(shard_mb=0.004))
    found = forecast(run)
    tag_corpus(run)
    segments_in_all = sum(len(text.by("regex").spans) for text in read_marked([run.out]))
    assert found.shards_left == run.shards
    assert found.segments_left == pytest.approx(segments_in_all, rel=0.5)
    assert found.rate > 0
    assert found.seconds(2) == pytest.approx(found.segments_left / found.rate / 2)
    assert forecast(run).segments_left == 0


# -- kills

SLOW = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.running import TaggingSettings, Workers, start, tag_corpus

@dataclass(frozen=True)
class Slow:
    seconds: float
    name: str = "regex"
    version: str = RegexScorer("a").version

    def score(self, texts):
        time.sleep(self.seconds * len(texts))
        return RegexScorer("a").score(texts)

if __name__ == "__main__":
    corpus, out, workers, seconds = sys.argv[1:]
    settings = TaggingSettings(shard_mb=0.004, at_once=8)
    run = start([Path(corpus)], out, [Slow(float(seconds))], settings)
    tag_corpus(run, Workers(int(workers), threads=1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed_it_gives_the_same_bytes(workers: int, corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    whole = tagged([corpus], tmp_path / "whole", [RegexScorer("a")])
    out = tmp_path / "out"
    command = [sys.executable, str(script), str(corpus), str(out), str(workers)]
    kept: set[str] = set()
    for wanted in (1, 2):
        process = subprocess.Popen([*command, "0.05"])
        for _ in range(1200):
            begun = list(out.glob(".part-*.partial"))
            if len(list(out.glob("_work/completions/*"))) >= wanted and begun:
                break
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # processes of a parent that was killed end by themselves
        now = {path.name for path in out.glob("part-*")}
        assert kept <= now
        kept = now
        assert len(kept) < whole.shards
        assert list(out.glob(".part-*.partial"))  # it was in the middle of one
        assert all(
            parts(out)[name] == parts(whole.out)[name] for name in kept
        )  # nothing half-written under a name
    assert not _running(script)
    subprocess.run([*command, "0"], check=True)
    assert parts(out) == parts(whole.out)
    assert not list(out.glob(".part-*"))
    assert json.loads((out / "manifest.json").read_text())["documents"] == 200


def _running(script: Path) -> list[str]:
    """Processes that still have the script in their command line, or that it started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(script) in command:
                found.append(command)
    return found


def test_a_worker_that_dies_is_an_error_and_no_wait_for_ever(corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(
        SLOW.replace("time.sleep(self.seconds * len(texts))", "import os; os.kill(os.getpid(), 9)")
    )
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "out"), "2", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "a worker must live to its end, got a process that was killed. Was memory short?" in done.stderr


FULL = """
import resource, sys
from pathlib import Path
import fivenines.conditional.tagging.blocks
from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.running import start, tag_corpus
from fivenines.errors import ResourceError
run = start([Path(sys.argv[1])], sys.argv[2], [RegexScorer("a")])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    tag_corpus(run)
except ResourceError as error:
    print(error)
"""


def test_a_full_disk_is_said(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(corpus), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "part-00000.jsonl must be writable, got file too large" in done.stdout
    assert not list((tmp_path / "out").glob("*part-*"))


# -- what is loaded

LIGHT = """
import sys
from pathlib import Path
import fivenines.conditional.tagging.making, fivenines.conditional.tagging.agreement, fivenines.cli.tagging
from fivenines.conditional.tagging.running import start, tag_corpus
assert not {"torch", "datatrove", "transformers", "ray", "pycodestyle"} & set(sys.modules), sorted(sys.modules)
from fivenines.conditional.tagging.rules import RegexScorer
tag_corpus(start([Path(sys.argv[1])], sys.argv[2], [RegexScorer("a")]))
assert "datatrove" in sys.modules and not {"torch", "ray"} & set(sys.modules)
"""
BARE = """
import sys
from pathlib import Path
from fivenines.conditional.tagging.running import start, tag_corpus
from fivenines.conditional.tagging.rules import RegexScorer
sys.modules["datatrove"] = None
from fivenines.errors import ConfigError
try:
    tag_corpus(start([Path(sys.argv[1])], sys.argv[2], [RegexScorer("a")]))
except ConfigError as error:
    print(error)
"""


def test_rules_load_no_torch_and_nothing_loads_datatrove_before_it_runs(corpus: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LIGHT, str(corpus), str(tmp_path / "out")], check=True)


def test_without_datatrove_it_says_what_to_install(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(corpus), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("datatrove must be installed, got no package datatrove")
    assert "pip install 'fivenines[corpora]'" in done.stdout


# -- with blocks of datatrove itself


def test_the_blocks_go_together_with_datatroves_own(corpus: Path, tmp_path: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    from fivenines.conditional.tagging.blocks import MarkSpans

    steps = [
        JsonlReader(str(corpus)),
        MarkSpans([RegexScorer("bleeds")], at_once=50),
        LambdaFilter(lambda document: any(document.metadata["marks"][0].scores)),
        JsonlWriter(str(tmp_path / "theirs"), compression=None),
    ]
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    found = list(read_marked([tmp_path / "theirs"]))
    mine = [row["text"] for row in stories(200) if "bleeds" in row["text"].lower()]
    assert [text.text for text in found] == mine
    assert len(mine) > 10
    # what datatrove writes has its marks in "metadata"; marking again finds them there
    run = tagged([tmp_path / "theirs"], tmp_path / "again", [RegexScorer("cuts", name="cuts")])
    assert {len(text.marks) for text in read_marked([run.out])} == {2}


def memory_of(corpus: Path, out: Path) -> int:
    """Peak memory of a run in a process of its own, in KiB."""
    code = f"""
import resource
from pathlib import Path
from fivenines.conditional.tagging.running import TaggingSettings, start, tag_corpus
from fivenines.conditional.tagging.making import scorers_from
scorers = scorers_from(["regex:a", "pii"])
tag_corpus(start([Path({str(corpus)!r})], {str(out)!r}, scorers, TaggingSettings(shard_mb=0.5)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks = []
    for times in (2, 12):
        path = tmp_path / f"{times}.jsonl"
        with path.open("w") as handle:
            for i in range(600 * times):
                handle.write(json.dumps({"text": f"Call me {i}. " * 60}) + "\n")
        peaks.append(memory_of(path, tmp_path / f"out{times}"))
    assert peaks[1] - peaks[0] < 40_000, peaks
