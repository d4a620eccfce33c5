"""Questions to a server over HTTP: retried, and given up in a way that can be told from an answer."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fivenines.errors import ConfigError, ModelError, sentence

__all__ = ["Asking", "Server"]

_REFUSALS = {401: "not known", 403: "not allowed", 404: "not found", 405: "not taken there"}
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Asking:
    """How to ask: ``tries`` of ``timeout`` seconds, the first pause of ``pause`` seconds doubled each time.

    ``at_once`` questions under way together. After ``patience`` questions in a row without an answer the server counts
    as gone. ``key_env``: the environment variable that holds the key, sent as a bearer token; it is never written down.
    """

    timeout: float = 60.0
    tries: int = 4
    pause: float = 1.0
    at_once: int = 8
    patience: int = 50
    key_env: str = ""

    def __post_init__(self) -> None:
        for name in ("tries", "at_once", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))
        if not self.timeout > 0 or not self.pause >= 0:
            must = "must be a positive time, and a pause of at least 0"
            raise ConfigError(sentence("timeout", must, (self.timeout, self.pause)))


@dataclass
class Server:
    """One address. Safe to use from many threads. ``counts``: requests, retries, failed."""

    url: str
    asking: Asking = field(default_factory=Asking)
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _failed: int = 0  # in a row

    def post(self, content: Mapping[str, Any]) -> Any | None:
        """The JSON that the server answers; None when it gave none in all tries.

        Raises ModelError for a server that refuses whoever asks (401, 403, 404, 405), or that seems to be gone.
        """
        reason, wait = "", 0.0
        for number in range(self.asking.tries):
            if number:
                self.count("retries")
                time.sleep(max(wait, min(_LONGEST_WAIT, self.asking.pause * 2 ** (number - 1))))
            self.count("requests")
            answer, reason, wait = self._post_once(content)
            if answer is not None:
                with self._lock:
                    self._failed = 0
                return answer
            if wait < 0:
                break
        self._give_up(reason)
        return None

    def _post_once(self, content: Mapping[str, Any]) -> tuple[Any | None, str, float]:
        """Answer or None, what was wrong, and how long the server wants to be left alone; below 0: for good."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.asking.key_env:
            headers["Authorization"] = f"Bearer {self._key()}"
        request = urllib.request.Request(self.url, json.dumps(content).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.asking.timeout) as reply:
                return json.loads(reply.read()), "", 0.0
        except urllib.error.HTTPError as error:
            with error:  # it is an open connection too
                code = error.code
                if code in _REFUSALS:
                    got = f"HTTP {code} ({_REFUSALS[code]})"
                    then = "Check the address, the model's name and the key."
                    raise ModelError(
                        sentence(f"the server at {self.url}", "must take requests", got, then)
                    ) from None
                again = code in (408, 409, 425, 429) or code >= 500
                return None, f"HTTP {code}", _seconds(error.headers.get("Retry-After")) if again else -1.0
        except (OSError, ValueError, http.client.HTTPException, RecursionError) as error:
            # no connection, no answer in time, half of one, or one that is no JSON
            return None, f"{type(error).__name__}: {error}", 0.0

    def _key(self) -> str:
        key = os.environ.get(self.asking.key_env)
        if not key:
            then = f"export {self.asking.key_env}=..."
            raise ConfigError(
                sentence(self.asking.key_env, "must hold the key of the server", "nothing", then)
            )
        return key

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self.counts["failed"] += 1
            self._failed += 1
            gone = self._failed >= self.asking.patience
        if gone:
            got = f"{self._failed} requests in a row without an answer, the last: {reason}"
            then = "What is marked is kept: run again when it answers."
            raise ModelError(sentence(f"the server at {self.url}", "must answer", got, then))

    def count(self, what: str, n: int = 1) -> None:
        """Count something; threads do not get in each other's way."""
        with self._lock:
            self.counts[what] += n


def _seconds(header: str | None) -> float:
    """Of Retry-After; a date, which servers of models do not send, counts as nothing."""
    try:
        return min(_LONGEST_WAIT, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0
