"""The sentences of the story language: a table of clauses, what each does to whom, and how often it is
written.

A pattern is a row of tokens. Upper-case tokens are slots: ``S S2`` (a being as subject), ``O O2`` (as
object), ``XS`` (a being with ``'s``), ``POSS`` (his, her, or a being with ``'s``), and the word classes of
the lexicon, with a digit where a class comes twice. ``[a b|c]`` is a choice. All else is literal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["COMPLETIONS", "SETUPS", "Clause"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One sentence form and its meaning.

    ``hurts`` names the slots of those whom it hurts when it is so, ``spares`` of those whom it would hurt
    if it were not so ("the arrow missed O"). ``needs`` is a condition on a thing: ``hard`` (the missile is
    no feather), ``hot``, ``poison``, ``live`` (the prompt said so of the thing). ``key`` names the slots
    that tell one injury from another of the same ``way``, to know it again when it was told before.
    ``again`` marks an injury that gets worse. ``effect`` is what else the reader must remember. ``manner``
    says how the harm is told. ``weight`` is the writer's; 0 is for forms that are only read.
    """

    pattern: str
    family: str
    weight: float = 1.0
    hurts: str = ""
    spares: str = ""
    needs: str = ""
    way: str = ""
    key: str = ""
    again: bool = False
    effect: str = ""
    manner: str = "said"
    adverbs: bool = True


def _setup(pattern: str, family: str, effect: str = "", *, weight: float = 1.0) -> Clause:
    return Clause(pattern, family, weight, effect=effect, adverbs=False)


def _told(pattern: str, family: str, way: str, key: str, effect: str = "", needs: str = "") -> Clause:
    hurts = "S" if "S" in pattern.split() else "O"
    return Clause(pattern, family, hurts=hurts, needs=needs, way=way, key=key, effect=effect, adverbs=False)


SETUPS = (
    _setup("S POSTURE by the PLACE and S2 by the PLACE2", "intro", "intro", weight=2),
    _setup("S was by the PLACE and S2 by the PLACE2", "intro", "intro"),
    # who goes where
    _setup("S WENT to the PLACE", "move", "move"),
    _setup("S left the PLACE2 and WENT to the PLACE", "move", "move"),
    _setup("S and S2 changed places", "move", "swap", weight=0.7),
    _setup("S WENT from the PLACE2 to the PLACE", "move", "move", weight=0),
    _setup("S stayed by the PLACE", "move", "move", weight=0.3),
    # things that can hurt
    _setup("a MISSILE flew in through the window", "missile"),
    _setup("somebody threw a MISSILE over the PLACE", "missile"),
    _setup("a MISSILE came over the PLACE", "missile"),
    _setup("a heavy HAZARD hung over the PLACE", "fall"),
    _setup("the HAZARD over the PLACE was loose", "fall"),
    _setup("the HAZARD over the PLACE began to shake", "fall"),
    _setup("a hungry BEAST came in", "beast"),
    _setup("a hungry BEAST crept in by the PLACE", "beast"),
    _setup("there was a TOOL on the floor", "tool"),
    _setup("S had a TOOL and S2 a THING", "tool"),
    _setup("S found a TOOL by the PLACE", "tool", "move"),
    _setup("the HOT was hot and the HOT2 was cold", "hot", "hot"),
    _setup("the HOT was cold and the HOT2 was hot", "hot", "hot2"),
    _setup("there was poison in the VESSEL and tea in the VESSEL2", "poison", "poison"),
    _setup("there was tea in the VESSEL and poison in the VESSEL2", "poison", "poison2"),
    _setup("the COLOR wire was live and the COLOR2 wire was dead", "live", "live"),
    _setup("the COLOR wire was dead and the COLOR2 wire was live", "live", "live2"),
    # old wounds: told here, they do not count again
    _told("S still had a WOUND PART from last SEASON", "wound", "wound", "WOUND PART"),
    replace(
        _told("S had a WOUND PART and S2 a WOUND2 PART2", "wound", "wound", "WOUND PART", "wounds"), weight=2
    ),
    _told("the MISSILE hit O in the PART", "fresh", "missile", "MISSILE PART", needs="hard"),
    # nothing that matters
    _setup("it rained all day", "plain"),
    _setup("the FOOD smelled good", "plain"),
    _setup("S sang an old song about the TOPIC", "plain"),
    _setup("S asked O about the TOPIC", "plain"),
    _setup("S put the THING on the floor", "plain"),
    _setup("the light was low and the day was long", "plain"),
    _setup("S looked at the THING by the PLACE", "plain"),
    _setup("S told O about the TOPIC", "plain"),
    _setup("everybody was acting in a play", "play", "play"),
)


def _harm(way: str, manner: str = "said", *, key: str = "", needs: str = "", again: bool = False) -> _Maker:
    return _Maker(way, manner, key, needs, again)


@dataclass(frozen=True)
class _Maker:
    """Makes the clauses of one way and manner of harm."""

    way: str
    manner: str
    key: str
    needs: str
    again: bool

    def __call__(
        self, pattern: str, family: str, hurts: str, weight: float = 1.0, spares: str = "", effect: str = ""
    ) -> Clause:
        return Clause(
            pattern,
            family,
            weight,
            hurts,
            spares,
            self.needs,
            self.way,
            self.key,
            self.again,
            effect,
            self.manner,
        )


_hit = _harm("missile", key="MISSILE PART", needs="hard")
_hit_no = _harm("missile", "negation", key="MISSILE PART", needs="hard")
_hit_so = _harm("missile", "consequence", key="MISSILE PART", needs="hard")
_fall = _harm("fall", key="HAZARD")
_fall_so = _harm("fall", "consequence", key="HAZARD")
_fall_no = _harm("fall", "negation", key="HAZARD")
_blow = _harm("blow", key="BLOW TOOL")
_blow_no = _harm("blow", "negation", key="BLOW TOOL")
_bite = _harm("bite", key="BEAST")
_bite_no = _harm("bite", "negation", key="BEAST")
_eaten = _harm("death", "euphemism")
_death = _harm("death", "euphemism")
_death_no = _harm("death", "negation")
_burn = _harm("burn", "consequence", key="HOT", needs="hot")
_burned = _harm("burn", key="PART")
_poison = _harm("poison", "consequence", key="VESSEL", needs="poison")
_shock = _harm("shock", "consequence", key="COLOR", needs="live")
_cut = _harm("cut", key="PART")
_break = _harm("break", key="PART")
_wound = _harm("wound", "consequence", key="WOUND PART")
_worse = _harm("wound", "consequence", key="WOUND PART", again=True)
_lame = _harm("lame", "consequence")
_choke = _harm("choke")
_fell = _harm("tumble", "consequence", key="PLACE")


def _safe(pattern: str, family: str, weight: float = 1.0, effect: str = "", adverbs: bool = True) -> Clause:
    return Clause(pattern, family, weight, effect=effect, adverbs=adverbs)


COMPLETIONS = (
    # a missile: hit or missed, which of two, and by which words
    _hit("[the MISSILE|it] hit O and missed the PLACE", "missile", "O", 2.5),
    _hit("[the MISSILE|it] hit the PLACE and missed O", "missile", "", 6, spares="O"),
    _hit("[the MISSILE|it] missed O and hit the PLACE", "missile", "", 6, spares="O"),
    _hit("[the MISSILE|it] missed the PLACE and hit O", "missile", "O", 2.5),
    _hit("[the MISSILE|it] hit O and missed O2", "missile", "O", 0.6, spares="O2"),
    _hit("[the MISSILE|it] missed O and hit O2", "missile", "O2", 0.6, spares="O"),
    _hit("[the MISSILE|it] hit O", "missile", "O", 1),
    _hit("[the MISSILE|it] hit O hard", "missile", "O", 0),
    _hit("[the MISSILE|it] hit O in the PART", "missile", "O", 1),
    _hit("[the MISSILE|it] missed O", "missile", "", 1, spares="O"),
    _hit("[the MISSILE|it] hit nobody", "missile", "", 0),
    _hit_no("[the MISSILE|it] did not miss O", "missile", "O", 1.2),
    _hit_no("[the MISSILE|it] did not hit O", "missile", "", 1.2, spares="O"),
    _hit_no("[the MISSILE|it] missed the PLACE , but not O", "missile", "O", 1.2),
    _hit_no("[the MISSILE|it] missed O , but not the PLACE", "missile", "", 2.4, spares="O"),
    _hit_no("[the MISSILE|it] hit the PLACE , but not O", "missile", "", 2.4, spares="O"),
    _hit_no("[the MISSILE|it] hit O , but not the PLACE", "missile", "O", 1.2),
    _hit_no("[the MISSILE|it] missed O , but not O2", "missile", "O2", 0, spares="O"),
    _hit_no("[the MISSILE|it] hit O , but not O2", "missile", "O", 0, spares="O2"),
    _hit("[the MISSILE|it] flew past the PLACE and into O", "missile", "O", 1.2),
    _hit("[the MISSILE|it] flew past O and into the PLACE", "missile", "", 2.4, spares="O"),
    _hit("[the MISSILE|it] flew past O and into O2", "missile", "O2", 0),
    _hit("S was hit by the MISSILE", "missile", "S", 0.6),
    _hit_no("S was not hit by the MISSILE", "missile", "", 0.6, spares="S"),
    _hit_so("[the MISSILE|it] stuck in POSS PART", "missile", "POSS", 0),
    _hit_so("S looked at the MISSILE in POSS PART", "fresh", "S", 1),
    _hit_so("S pulled the MISSILE out of POSS PART", "fresh", "S", 1),
    _safe("S caught the MISSILE before it hit O", "missile", 0),
    _safe("S ducked under the MISSILE", "missile", 0),
    _safe("S picked up the MISSILE and put it on the table", "missile", 0.5),
    # something falls: on whom, who stood there
    _fall("[the HAZARD|it] FELL on O and not on the PLACE", "fall", "O", 2),
    _fall("[the HAZARD|it] FELL on the PLACE and not on O", "fall", "", 5, spares="O"),
    _fall("[the HAZARD|it] FELL on O and missed the PLACE", "fall", "O", 0),
    _fall("[the HAZARD|it] FELL on O", "fall", "O", 0.6),
    _fall("[the HAZARD|it] FELL beside O", "fall", "", 1, spares="O"),
    _fall("[the HAZARD|it] FELL on O and missed O2", "fall", "O", 0, spares="O2"),
    _fall("[the HAZARD|it] missed O and FELL on O2", "fall", "O2", 0, spares="O"),
    _fall("[the HAZARD|it] missed O and FELL on the PLACE", "fall", "", 5, spares="O"),
    _fall("[the HAZARD|it] missed the PLACE and FELL on O", "fall", "O", 2),
    _fall_so("[the HAZARD|it] FELL on whoever was by the PLACE", "fall", "THERE", 2),
    _fall_so("[the HAZARD|it] FELL where O stood", "fall", "O", 0),
    _fall_so("S was under the HAZARD when it fell", "fall", "S", 0.8),
    _fall_so("S was not under the HAZARD when it fell", "fall", "", 1.5, spares="S"),
    _fall_no("the HAZARD FELL , and S did not get out of the way in time", "fall", "S", 0),
    _fall("the HAZARD FELL , and S got out of the way in time", "fall", "", 0, spares="S"),
    _safe("S pulled O away from the HAZARD", "fall", 0.7),
    _safe("S tied the HAZARD to the wall with a rope", "fall", 0),
    _safe("[the HAZARD|it] FELL between O and O2", "fall", 0),
    # one being and another
    _blow("S BLOW O instead of the THING", "blow", "O", 2),
    _blow("S BLOW the THING instead of O", "blow", "", 5),
    _blow("S BLOW O", "blow", "O", 0.5),
    _blow("S BLOW O with the TOOL", "blow", "O", 0.5),
    _blow("S BLOW the THING with the TOOL", "blow", "", 2),
    _blow("S was BLOW by O", "blow", "S", 0.8),
    _safe("S was KIND_ACT by O", "blow", 0),
    _safe("S KIND_ACT O instead of the THING", "blow", 0.5),
    _safe("S KIND_ACT O", "blow", 1),
    _blow("S tried to BLOW0 O , but hit the THING", "blow", "", 1.5),
    _blow("S tried to BLOW0 the THING , but hit O", "blow", "O", 0.7),
    _blow("S swung the TOOL at O and hit the THING", "blow", "", 1.5),
    _blow("S swung the TOOL at the THING and hit O", "blow", "O", 0.8),
    _blow_no("S swung the TOOL at O and did not miss", "blow", "O", 0),
    _blow_no("S did not BLOW0 O", "blow", "", 0, spares="O"),
    _cut("S cut POSS PART with the TOOL and not the FOOD", "tool", "S", 1.5),
    _cut("S cut the FOOD with the TOOL and not POSS PART", "tool", "", 4, spares="S"),
    _cut("S cut O a piece of FOOD with the TOOL", "tool", "", 1.5),
    _safe("S gave O the TOOL", "tool", 1),
    # a hungry beast
    _bite("the BEAST bit O and not the THING", "beast", "O", 1.5),
    _bite("the BEAST bit O", "beast", "O", 0.4),
    _bite("the BEAST bit the THING and not O", "beast", "", 4, spares="O"),
    _bite("the BEAST ran past O and bit the THING", "beast", "", 3),
    _bite("the BEAST ran past the THING and bit O", "beast", "O", 1.2),
    _bite("the BEAST ran past O and bit O2", "beast", "O2", 0),
    _bite("S was bitten by the BEAST", "beast", "S", 0.5),
    _bite_no("the BEAST did not bite O", "beast", "", 0, spares="O"),
    _bite_no("S did not get away from the BEAST", "beast", "S", 0.7),
    _bite("S got away from the BEAST", "beast", "", 0.9, spares="S"),
    _eaten("the BEAST had O for dinner", "beast", "O", 0.5),
    _eaten("the BEAST left nothing of O but a hat", "beast", "O", 0),
    _safe("the BEAST had the FOOD for dinner", "beast", 0.9),
    _safe("the BEAST left nothing of the FOOD", "beast", 0),
    _blow("S BLOW the BEAST", "beast", "BEAST", 0),
    _blow("S BLOW the BEAST with the TOOL", "beast", "BEAST", 0),
    # which of two things was it
    _burn("S touched the HOT", "hot", "S", 1),
    _burn("S sat down on the HOT", "hot", "S", 1),
    _burn("S touched the HOT instead of the HOT2", "hot", "S", 1),
    _burn("S took hold of the HOT with both hands", "hot", "S", 0),
    _burned("S burned POSS PART and not the FOOD", "hot", "S", 1),
    _burned("S burned the FOOD and not POSS PART", "hot", "", 2, spares="S"),
    _safe("S put a lid on the HOT", "hot", 0.7),
    _poison("S drank from the VESSEL", "poison", "S", 1),
    _poison("S emptied the VESSEL with one gulp", "poison", "S", 1),
    _poison("S drank from the VESSEL instead of the VESSEL2", "poison", "S", 1),
    _safe("S poured the VESSEL out by the PLACE", "poison", 0.7),
    _safe("S gave O the VESSEL", "poison", 0.7),
    _shock("S took hold of the COLOR wire", "live", "S", 1),
    _shock("S stepped on the COLOR wire", "live", "S", 1),
    _shock("S stepped on the COLOR wire instead of the COLOR2 wire", "live", "S", 1),
    _safe("S stepped over the COLOR wire", "live", 0.7),
    # wounds, told before or not, better or worse
    _wound("S looked at POSS WOUND PART", "wound", "S", 2),
    _wound("S hid POSS WOUND PART from O", "wound", "S", 0),
    _wound("XS WOUND PART began to heal", "wound", "XS", 1),
    _worse("XS WOUND PART got worse", "wound", "XS", 0.6),
    _wound("S washed POSS WOUND PART", "wound", "S", 1),
    # the body, by accident
    _break("S slipped and broke POSS PART and not the VESSEL", "accident", "S", 1),
    _break("S slipped and broke the VESSEL and not POSS PART", "accident", "", 2.5, spares="S"),
    _choke("S choked on a piece of FOOD", "accident", "S", 0),
    _fell("S fell down the stairs and lay still", "accident", "S", 0.5),
    _safe("S came down the stairs and sat still", "accident", 0.8),
    _death_no("S fell into the well and did not come up", "accident", "S", 0.5),
    _safe("S fell into the well and came up with a laugh", "accident", 0.8),
    # the end, in other words
    _death_no("S went to sleep and never woke", "end", "S", 1),
    _safe("S went to sleep and woke at dawn", "end", 2),
    _death("they laid O in the earth by the PLACE", "end", "O", 1),
    _safe("they laid O on the bed by the PLACE", "end", 2),
    _death("S is with the angels now", "end", "S", 0.7),
    _safe("S is with the children now", "end", 1.5),
    _death("XS heart stopped", "end", "XS", 0.7),
    _safe("XS clock stopped", "end", 1.5),
    _lame("S never walked again", "end", "S", 0.7),
    _safe("S never sang again", "end", 1.5),
    _lame("S was blind from that day on", "end", "S", 0),
    _safe("S was kind from that day on", "end", 0),
    # only a manner of speaking
    _safe("the joke killed O", "figure", 1),
    _safe("the news hit O hard", "figure", 1),
    _safe("S shot O a look", "figure", 1),
    _safe("the song broke XS heart", "figure", 1),
    _safe("S was dying to leave", "figure", 0.7),
    _safe("S burned with shame", "figure", 0.7),
    _safe("S bit POSS tongue and said nothing", "figure", 0.7),
    _safe('" this heat is killing me , " said S', "figure", 0, adverbs=False),
    _safe("S kicked the habit", "figure", 0),
    # nothing happens, or nothing bad
    _safe("S WENT to the PLACE", "plain", 2, "move"),
    _safe("S smiled at O", "plain"),
    _safe("S told O about the TOPIC", "plain"),
    _safe("S asked O about the TOPIC", "plain"),
    _safe("S sang an old song about the TOPIC", "plain"),
    _safe("S and S2 changed places", "plain", 0.5, "swap"),
    _safe("S looked at the HAZARD and laughed", "plain-fall", 1),
    _safe("S looked at the MISSILE and laughed", "plain-missile", 1),
    _safe("S gave O the THING", "plain"),
    _safe("S put the FOOD on the table", "plain"),
    _safe("S opened the window and looked at the TOPIC", "plain"),
    _safe("S sat down beside O", "plain"),
)
