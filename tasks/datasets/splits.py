"""Which frames the publications train on and which they score.

People-Snapshot: InstantAvatar (confs/dataset/peoplesnapshot) and, the same frames, 3DGS-Avatar (configs/dataset/ps_*.yaml);
GaussianAvatar trains and scores on InstantAvatar's frames too. NeuMan: the rule of its authors (data_io/neuman_helper.py), which
HUGS and GaussianAvatar follow.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedSplit:
    """Source frames, counted from 0.

    Attributes:
        train, test: never the same frame in both: one that a publication uses twice is scored and not trained on.
        source: where the numbers are from, and what is unusual.
    """

    train: list[int]
    test: list[int]
    source: str


# subject: training frames and scored frames, each (first, end, step) as Python's range takes them
SNAPSHOT_SPLITS = {
    "female-3-casual": ((0, 446, 4), (446, 648, 4)),
    "female-4-casual": ((0, 336, 4), (335, 524, 4)),
    "female-4-sport": ((1, 337, 4), (336, 525, 4)),
    "male-2-casual": ((1, 456, 4), (1, 456, 20)),
    "male-2-sport": ((1, 456, 4), (1, 456, 20)),
    "male-3-casual": ((0, 456, 4), (456, 676, 4)),
    "male-3-sport": ((1, 231, 2), (230, 461, 6)),
    "male-4-casual": ((0, 660, 6), (660, 873, 6)),
}


def snapshot_split(subject: str, num_frames: int) -> PublishedSplit | None:
    """The published frames of a People-Snapshot subject; None where nobody published any."""
    if subject not in SNAPSHOT_SPLITS:
        return None
    train, test = ([frame for frame in range(*span) if frame < num_frames] for span in SNAPSHOT_SPLITS[subject])
    shared = set(train) & set(test)
    note = f"; {len(shared)} scored frames are training frames there and are held out here" if shared else ""
    return PublishedSplit([frame for frame in train if frame not in shared], test, f"InstantAvatar and 3DGS-Avatar, {subject}{note}")


def neuman_split(num_frames: int) -> PublishedSplit:
    """Every fifth frame or so, from the middle of the first five on, is set aside; the first half of those is scored."""
    num_aside = num_frames // 5
    if num_aside < 2:
        raise ValueError(f"{num_frames} frames are too few to split; expected at least 10")
    step = num_frames // num_aside
    aside = list(range(num_frames))[step // 2 :: step]
    train = sorted(set(range(num_frames)) - set(aside))
    return PublishedSplit(train, aside[: len(aside) // 2], "NeuMan's rule: the first half of the frames set aside is scored, the second half is left out")
