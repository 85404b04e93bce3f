"""Findings of checks: each promise of the contract held, broken, or not checked here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ovvol_bench.errors import ContractError

Status = Literal["held", "broken", "not checked"]


class NotCheckedError(Exception):
    """A promise can't be checked here; says why."""


@dataclass(frozen=True)
class Finding:
    """A promise of the contract, and whether it was kept.

    Attributes:
        promise: what a component of the kind does.
        status: whether this one did.
        reason: what was expected and found instead, or why it was not checked; empty if it held.
    """

    promise: str
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """All promises of a component's contract.

    Attributes:
        component: what was checked.
        findings: in the order of the checks.
    """

    component: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> list[Finding]:
        """The promises that were not kept."""
        return [finding for finding in self.findings if finding.status == "broken"]

    def raise_if_broken(self) -> None:
        """Fail a test.

        Raises:
            ContractError: if a promise was broken; lists all that were.
        """
        if self.broken:
            lines = "\n".join(f"- {finding.promise}: {finding.reason}" for finding in self.broken)
            raise ContractError(f"{self.component} breaks its contract:\n{lines}")


def run_checks(component: str, checks: Iterable[Callable[[], None]]) -> Report:
    """Run checks one by one; one that fails doesn't stop the others.

    Args:
        component: what is checked, in words.
        checks: methods that raise where a promise is broken; the first line of their docstring, or
            of the base class's, is the promise.
    """
    return Report(component, tuple(_run(check) for check in checks))


def _run(check: Callable[[], None]) -> Finding:
    promise = (inspect.getdoc(check) or check.__name__).splitlines()[0].removesuffix(".")
    try:
        check()
    except NotCheckedError as error:
        return Finding(promise, "not checked", str(error))
    except Exception as error:
        text = str(error) if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
        return Finding(promise, "broken", " ".join(text.split()) or type(error).__name__)
    return Finding(promise, "held")


def expect(holds: bool, otherwise: str) -> None:
    """Break the promise unless something holds.

    Raises:
        ContractError: with the text.
    """
    if not holds:
        raise ContractError(otherwise)
