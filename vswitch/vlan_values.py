"""The converters of settings about VLANs and MAC addresses, by the rules of `values.py`."""

from __future__ import annotations

from vswitch.core.vlan import MAX_VLAN, parse_vlans

__all__ = ["to_vlan", "to_vlans"]

_NONE = ("none", "")


def to_vlan(value: int | str | None) -> int | None:
    """A VLAN id; None and `none` mean none."""
    if isinstance(value, str):
        if value.lower() in _NONE:
            return None
        if not value.isdecimal() or not value.isascii():
            raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none")
        value = int(value[:8])
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_VLAN:
        raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none")
    return value


def to_vlans(value: int | str | None) -> str | None:
    """Several VLANs as text, `10,20-30` or `all`; None and `none` mean none."""
    if value is None or (isinstance(value, str) and value.lower() in _NONE):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("write VLANs as text: 10,20-30, or all")
    parse_vlans(value)
    return value.replace(" ", "").lower()
