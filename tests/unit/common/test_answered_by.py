"""Which records of a split chunk a message answers for: those that no smaller message carries."""

import pytest

from common.ledger.chunks import Chunk
from common.ledger.states import ChunkState, state_of

WHOLE, LEFT, RIGHT, LONE, CROSSED = None, (0, 1), (2, 3), (3,), (1, 2)


def _chunk(letters: str, sizes: list[int]) -> Chunk:
    return Chunk(
        run_id="run",
        key="000000-1",
        sequence=0,
        epoch=1,
        count=4,
        state=state_of(letters) if letters else ChunkState.QUEUED,
        letters=letters,
        part_sizes=bytes(sizes),
    )


@pytest.mark.parametrize(
    ("sizes", "part", "expected"),
    [
        ([], WHOLE, {0, 1, 2, 3}),
        ([], LEFT, {0, 1}),
        ([2, 2, 2, 2], WHOLE, set()),
        ([2, 2, 2, 2], LEFT, {0, 1}),
        ([2, 2, 2, 2], CROSSED, {1, 2}),
        ([2, 2, 1, 1], WHOLE, set()),
        ([2, 2, 1, 1], LEFT, {0, 1}),
        ([2, 2, 1, 1], RIGHT, set()),
        ([2, 2, 1, 1], LONE, {3}),
        ([2, 2, 1, 1], CROSSED, {1}),
        ([4, 4, 4, 1], WHOLE, {0, 1, 2}),
    ],
)
def test_the_smallest_message_answers_for_a_record(
    sizes: list[int], part: tuple[int, ...] | None, expected: set[int]
) -> None:
    """Of two that are as small each does."""
    assert _chunk("....", sizes).answered_by(part) == expected


@pytest.mark.parametrize(
    ("letters", "sizes", "part", "expected"),
    [
        ("", [], WHOLE, False),
        ("....", [], WHOLE, False),
        ("....", [2, 2, 2, 2], WHOLE, True),
        ("....", [2, 2, 2, 2], LEFT, False),
        ("AAP.", [2, 2, 1, 1], RIGHT, True),
        ("AAPA", [2, 2, 1, 1], WHOLE, True),
        ("ASRD", [2, 2, 1, 1], WHOLE, False),
        ("PPPD", [4, 4, 4, 1], WHOLE, False),
    ],
)
def test_a_message_says_whether_smaller_ones_go_on(
    letters: str, sizes: list[int], part: tuple[int, ...] | None, expected: bool
) -> None:
    """They do while they answer for something that may still be sent."""
    assert _chunk(letters, sizes).goes_on_without(part) is expected


@pytest.mark.parametrize("state", [ChunkState.QUEUED, ChunkState.DISCARDED])
def test_a_message_that_answers_for_nothing_moves_nothing(state: ChunkState) -> None:
    """Its chunk is not moved for it; that of a part still is."""
    chunk = _chunk("PPPP", [2, 2, 2, 2])
    assert not chunk.may_move(state, part=WHOLE)
    assert chunk.may_move(state, part=LEFT)
