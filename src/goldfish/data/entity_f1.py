"""F1 over whole entities, as the CoNLL-2000 script and seqeval's default mode count them.

Tags are IOB (B begins an entity, I goes on), IOBES (E ends one, S is one of a single word) or BILOU (L and U for E and
S), a mark and a type, such as B-person; or a mark alone, where all entities are of one type.
"""

from __future__ import annotations

from collections.abc import Sequence

SAME = {"L": "E", "U": "S"}  # what IOBES calls a mark of BILOU
Entity = tuple[int, str, int, int]  # sentence, type, first word, last word


def entity_f1(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Micro-averaged F1: an entity counts as found when its type and both of its ends agree.

    By hand: true B-PER I-PER O B-LOC, predicted B-PER O O B-LOC: 1 of 2 entities found, 1 of 2 right: F1 = .5.

    Args:
        true: tags of each sentence.
        predicted: the same shape.

    Returns:
        F1; 0 where there is no entity in both.
    """
    wanted = {entity for index, tags in enumerate(true) for entity in entities(index, tags)}
    given = {entity for index, tags in enumerate(predicted) for entity in entities(index, tags)}
    both = len(wanted & given)
    return 2 * both / (len(wanted) + len(given)) if both else 0.0


def entities(sentence: int, tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence. An I or E that does not go on an entity of its type begins one."""
    complete: list[Entity] = []
    before, kind, start = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        mark, _, now = tag.partition("-")
        mark = SAME.get(mark, mark)
        goes_on = mark in ("I", "E") and before in ("B", "I") and kind == now
        if before != "O" and not goes_on:
            complete.append((sentence, kind, start, place - 1))
        if not goes_on:
            kind, start = now, place
        before = mark
    return complete
