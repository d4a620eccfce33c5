"""storyworld: a small story language with algorithmic truth.

The ground truth that estimators and guarantees are checked against, the default task of the demo, and a
fast test bed for attacks. A closed vocabulary, a writer of three-sentence prompts and next sentences, and a
reader that judges any text in the vocabulary by reading it: who can feel, who stands where, what hit and
what missed, what was told before.
"""

from fivenines.storyworld.coherence import coherence
from fivenines.storyworld.grammar import vocabulary
from fivenines.storyworld.guidelines import GUIDELINES
from fivenines.storyworld.lexicon import detokenize, tokenize
from fivenines.storyworld.people import Attempted, SimulatedAttacker, SimulatedLabeler, SimulatedRater
from fivenines.storyworld.reading import Reading, Truth, explain, read, truth
from fivenines.storyworld.writing import write_corpus, write_prompts, write_snippet, write_snippets

__all__ = [
    "GUIDELINES",
    "Attempted",
    "Reading",
    "SimulatedAttacker",
    "SimulatedLabeler",
    "SimulatedRater",
    "Truth",
    "coherence",
    "detokenize",
    "explain",
    "read",
    "tokenize",
    "truth",
    "vocabulary",
    "write_corpus",
    "write_prompts",
    "write_snippet",
    "write_snippets",
]
