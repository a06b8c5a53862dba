"""What the campaigns left with ``--report``: a JSON file for each part of a campaign."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MUST_HOLD = {
    "kill -9": "old or new value, other keys intact, the same command finishes, at most 20 pads sent again, no pad lost",
    "power loss": "everything acknowledged before is there",
    "file errors": "exit code 73 or 74, no repeated sync, nothing acknowledged lost, works again once there is room",
    "lost answers": "no false conflict, no double reservation, no leaked pad",
    "storms and stalls": "ends within its deadline and 2 seconds, bounded memory and requests, the right exit code",
    "damage": "healed or a named error, never exit code 0 with wrong bytes",
    "swaps and rollback": "reported, or the right bytes; a writer is stopped before it overwrites",
    "races": "nothing damaged, readers get old or new",
    "restored backup": "the writer is told before anything is overwritten; salts never repeat",
    "model": "equal to a dict",
    "secrets": "nowhere they do not belong",
    "interrupts": "the Store goes on or says that it is closed; nothing is damaged, and no lock is left",
    "the tests themselves": "every mutant is caught, or listed with the reason why it is harmless",
}  # by campaign, in the order of the page


@dataclass(frozen=True)
class Part:
    """One part of a campaign, which is one test. ``counts``: cases by kind."""

    name: str
    form: str  # short or long
    seed: int
    goal: int
    cases: int
    counts: dict[str, int]
    violations: list[str]
    notes: list[str]
    seconds: float


@dataclass(frozen=True)
class Row:
    """A campaign."""

    name: str
    parts: list[Part]

    @property
    def cases(self) -> int:
        return sum(part.cases for part in self.parts)

    @property
    def counts(self) -> Counter[str]:
        """Cases by kind, of all parts."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.counts)
        return total

    @property
    def violations(self) -> int:
        return sum(len(part.violations) for part in self.parts)

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    @property
    def short(self) -> bool:
        """True when any part was run in its short form."""
        return any(part.form != "long" for part in self.parts)


def read(folder: Path) -> list[Row]:
    """Every campaign in the order of the page, those without figures too; unknown ones last."""
    parts: dict[str, list[Part]] = {name: [] for name in MUST_HOLD}
    for path in sorted(folder.glob("*.json")):
        fields = json.loads(path.read_bytes())
        campaign, fields["name"] = fields.pop("campaign"), fields.pop("part")
        parts.setdefault(campaign, []).append(Part(**fields))
    return [Row(name, found) for name, found in parts.items()]


def shortcomings(rows: list[Row]) -> list[str]:
    """Why these figures prove less than they should; empty when all is well."""
    wrong = [f"{row.name}: not run" for row in rows if not row.parts]
    for row in rows:
        for part in row.parts:
            label = f"{row.name} ({part.name})" if part.name else row.name
            if part.cases < part.goal:
                wrong.append(f"{label}: {part.cases} cases of {part.goal}")
            wrong += [f"{label}: {violation}" for violation in part.violations]
    return wrong
