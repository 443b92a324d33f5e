"""One small generated person, built once for all tests of the demo."""

from __future__ import annotations

import pytest

from demo.motion import Motion, clip_motion, second_motion
from demo.people import make_person
from demo.subject import Subject, build_subject


@pytest.fixture(scope="session")
def subject() -> Subject:
    return build_subject(make_person(0), texture_size=128)


@pytest.fixture(scope="session")
def clip(subject: Subject) -> Motion:
    return clip_motion(subject.skeleton, 250, seed=0)


@pytest.fixture(scope="session")
def second(subject: Subject) -> Motion:
    return second_motion(subject.skeleton, 100, seed=0)
