"""What is done to a round, drawn from its seed: pure, so that a round can be repeated."""

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a step does. The first four kill."""

    WORKER = "worker"
    WEB = "web"
    SSHD = "sshd"
    """One of the processes that serve a connection at the server."""
    SUPERVISOR = "supervisor"
    """And it is started again, as systemd would."""
    FREEZE = "freeze"
    """Stop a worker past its lease, then let it go on."""
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    LEASE = "lease"
    """Nothing that is done: a worker lost its lease by itself."""


KILLS = (Kind.WORKER, Kind.WEB, Kind.SSHD, Kind.SUPERVISOR)
_WEIGHTS = {Kind.WORKER: 12, Kind.WEB: 5, Kind.SSHD: 7, Kind.SUPERVISOR: 1, Kind.FREEZE: 1}
LEAST_KILLS, MOST_KILLS = 8, 16


class Mode(StrEnum):
    """What a person does to the job besides waiting."""

    PLAIN = "plain"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    """And then there is another job for the same trees."""
    RETRIED = "retried"
    """Some files cannot be copied at first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done."""

    kind: Kind
    after_s: float
    """Since the step before, or since the job began to run."""
    pick: float
    """Which of those that are there, from 0 to 1."""


class Way(StrEnum):
    """From where to where the tree goes, and whether its servers give a shell, for tar and to hash contents."""

    UP = "up, SFTP alone"
    UP_SHELL = "up, shell"
    DOWN = "down, SFTP alone"
    DOWN_SHELL = "down, shell"
    RELAY = "from server to server"
    WITHIN = "within a server"


@dataclass(frozen=True, slots=True)
class Plan:
    """A round."""

    mode: Mode
    way: Way
    steps: tuple[Step, ...]
    deletes: bool = False
    """Whether there is more at the destination, which is to be deleted."""

    @property
    def kills(self) -> int:
        """How many of its steps kill."""
        return sum(step.kind in KILLS for step in self.steps)


def plan_round(seed: int, number: int) -> Plan:
    """The plan of a round, always the same for the same seed and number."""
    draw = random.Random(f"{seed}/{number}")
    mode = draw.choice((Mode.PLAIN, Mode.PLAIN, Mode.PAUSED, Mode.CANCELLED, Mode.RETRIED))
    way = draw.choice(list(Way))
    kinds: list[Kind] = []
    wanted = draw.randint(LEAST_KILLS, MOST_KILLS)
    while sum(kind in KILLS for kind in kinds) < wanted:
        kinds += draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    if mode is Mode.PAUSED:
        for _ in range(draw.randint(1, 3)):
            at = draw.randint(0, len(kinds))
            # What dies while the job is paused dies in between.
            kinds[at:at] = [Kind.PAUSE]
            kinds.insert(min(len(kinds), at + 1 + draw.randint(0, 2)), Kind.RESUME)
    if mode is Mode.CANCELLED:
        kinds.insert(draw.randint(1, len(kinds)), Kind.CANCEL)
    steps = [Step(kind, _gap(draw, is_first=not index), draw.random()) for index, kind in enumerate(kinds)]
    return Plan(mode, way, tuple(steps), deletes=draw.random() < 0.5)


def _gap(draw: random.Random, *, is_first: bool) -> float:
    if is_first:
        return draw.uniform(0.0, 1.5)
    # Some come together, most while what the last one ended has only just begun again.
    return 0.0 if draw.random() < 0.2 else draw.uniform(0.05, 1.3)
