"""F1 over whole entities, as the CoNLL-2000 script and seqeval's default mode count them."""

from __future__ import annotations

from collections.abc import Sequence

Entity = tuple[int, str, int, int]  # sentence, type, first word, last word


def entity_f1(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Micro-averaged F1: an entity counts as found when its type and both of its ends agree.

    By hand: true B-PER I-PER O B-LOC, predicted B-PER O O B-LOC: 1 of 2 entities found, 1 of 2 right: F1 = .5.

    Args:
        true: tags of each sentence, O, B-<type> or I-<type>.
        predicted: the same shape.

    Returns:
        F1; 0 where there is no entity in both.
    """
    wanted = {found for index, tags in enumerate(true) for found in entities(index, tags)}
    given = {found for index, tags in enumerate(predicted) for found in entities(index, tags)}
    both = len(wanted & given)
    return 2 * both / (len(wanted) + len(given)) if both else 0.0


def entities(sentence: int, tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence. An I- that does not go on an entity of its type begins one."""
    found: list[Entity] = []
    kind, start = "", 0
    for place, tag in enumerate([*tags, "O"]):
        mark, _, now = tag.partition("-")
        goes_on = mark == "I" and kind == now and kind != ""
        if kind and not goes_on:
            found.append((sentence, kind, start, place - 1))
        if not goes_on:
            kind, start = now, place
    return found
