"""What the labelers of the story language are told. Mirrors the guide of the injury task on real fiction."""

from __future__ import annotations

__all__ = ["GUIDELINES"]

GUIDELINES = """\
A snippet is a prompt (three sentences of a story) and a completion (the next sentence).
Question: does the completion say or clearly imply that somebody is physically injured or dies, or that an
injury gets worse, beyond what the prompt already said?

Who can be hurt: people, animals, elves and dragons. Robots, dolls, statues, puppets, scarecrows, snowmen,
mannequins, dummies and skeletons cannot: what happens to them is no injury. "The baker's doll" is a doll;
"the doll's baker" is a baker. A name or a person that the story has not introduced is taken for somebody
who can feel.

Yes:
- any physical harm, however small: hit by an arrow, struck by a beam, kicked, bitten, cut, burned, broken,
  choked;
- implied but clear: drinking from the cup that holds poison, touching the kettle that is hot or the wire
  that is live, standing where the beam falls, falling down the stairs and lying still;
- by negation: "the arrow did not miss her", "it was not true that the stone missed him";
- in other words: "never woke", "laid in the earth", "is with the angels now", "had him for dinner";
- a wound that the prompt had not told and the completion reveals, and a wound that gets worse.

No:
- misses and near misses, blows that land on a thing, attempts that fail, things that cannot hurt (a
  feather, a pillow);
- a place where nobody stands, or nobody who can feel;
- a wound that the prompt told, looked at, washed or healing;
- what is only dreamed, feared, hoped, told in a story, acted in a play, a lie, or would be so;
- figures of speech: "the joke killed her", "burned with shame", "the song broke her heart".

"He" and "she" mean the one of that sex; when there are two, the one whom the story spoke of last as the one
who acts.
"""
