"""What `vswitch impair` is told, as text: `40ms~5ms`, `1%`, `10M`. Pure.

Error contract: `ConfigError`, with the flag and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vswitch.errors import ConfigError
from vswitch.features.impairment import Orders
from vswitch.values import to_duration

__all__ = ["orders_untrusted", "said"]

MAX_DELAY = 60.0  # seconds
MAX_RATE = 100e9  # bit/s
MAX_SEED = 1 << 32
DIRECTIONS = ("in", "out", "both")

_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(us|ms|s)", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([kMG]?)", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def orders_untrusted(args: Mapping[str, Any]) -> Orders:
    """The orders in a request: text by name of the flag; what is missing or None is not asked."""
    asked = {key: args[key] for key in ("delay", "rate", "for") if args.get(key) is not None}
    shares = {key: args.get(key) for key in ("loss", "duplicate", "reorder")}
    delay, jitter = _delay(asked.get("delay", "0ms"))
    seed = args.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < MAX_SEED):
        raise ConfigError(f"--seed: a whole number, 0 to {MAX_SEED - 1}")
    direction = args.get("direction") or "both"
    if direction not in DIRECTIONS:
        raise ConfigError(f"--direction: one of {', '.join(DIRECTIONS)}")
    try:
        seconds = to_duration(asked["for"]) if "for" in asked else None
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from None
    if not asked.keys() & {"delay", "rate"} and not any(shares.values()):
        raise ConfigError("say what the wire is to be like: --delay, --loss, --rate and so on")
    orders = Orders(
        delay=delay,
        jitter=jitter,
        rate=_rate(asked["rate"]) if "rate" in asked else None,
        seed=1 if seed is None else seed,
        direction=direction,
        seconds=seconds,
        **{key: 0.0 if text is None else _share(key, text) for key, text in shares.items()},
    )
    orders.spec()
    return orders


def said(orders: Orders) -> str:
    """The orders as they could have been written."""
    words = []
    if orders.delay or orders.jitter:
        jitter = f"~{_short(orders.jitter * 1e3)}ms" if orders.jitter else ""
        words.append(f"delay {_short(orders.delay * 1e3)}ms{jitter}")
    for name in ("loss", "duplicate", "reorder"):
        share = getattr(orders, name)
        words += [f"{name} {_short(share * 100)}%"] if share else []
    if orders.rate is not None:
        words.append(f"rate {_short(orders.rate / 1e6)}M")
    return ", ".join([*words, f"seed {orders.seed}", f"direction {orders.direction}"])


def _short(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _delay(text: object) -> tuple[float, float]:
    first, tilde, second = str(text).partition("~")
    return _time(first), _time(second) if tilde else 0.0


def _time(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ConfigError(f"--delay {text[:20]}: write 40ms, or 40ms~5ms for up to 5 ms more")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_DELAY:
        raise ConfigError(f"--delay {text}: at most {MAX_DELAY:g}s")
    return seconds


def _share(flag: str, text: object) -> float:
    match = _SHARE.fullmatch(str(text))
    if match is None or float(match[1]) > 100:
        raise ConfigError(f"--{flag} {str(text)[:20]}: write 0% to 100%")
    return float(match[1]) / 100


def _rate(text: object) -> float:
    match = _RATE.fullmatch(str(text))
    rate = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if not 1000 <= rate <= MAX_RATE:
        raise ConfigError(f"--rate {str(text)[:20]}: write 1k to 100G, in bit/s, such as 10M")
    return rate
