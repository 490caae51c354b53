"""Try again, later and later, what the network made fail. Nothing else is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from pipeline.command import say
from pipeline.errors import UnavailableError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """State how often the network is tried in one run, and the seconds between: doubled every time, with jitter."""

    tries: int = 5
    first: float = 10.0
    most: float = 600.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def persist(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result. Errors are raised at once, but for a network's: after the last try."""

        def note(state: RetryCallState) -> None:
            wait = state.next_action.sleep if state.next_action is not None else 0.0
            say(f"{what}: the network failed, trying again in {wait:.0f} s")

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_attempt(self.tries),
            wait=wait_exponential_jitter(multiplier=self.first, max=self.most, jitter=self.first),
            sleep=self.sleep,
            before_sleep=note,
            reraise=True,
        )
        return await retrying(call)
