"""The converters of settings about VLANs and MAC addresses, by the rules of `values.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vswitch.core.frame import format_mac, parse_mac
from vswitch.core.vlan import MAX_VLAN, parse_vlans

__all__ = ["parse_station", "to_mac_limit", "to_macs", "to_stations", "to_vlan", "to_vlans"]

_MAC_LIMIT_RANGE = (1, 8192)  # up to the capacity of the FDB
_MAX_LISTED = 256  # addresses of one port
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


def parse_station(text: str) -> tuple[bytes, int | None]:
    """Address and VLAN of `02:00:5e:10:00:01`, or `02:00:5e:10:00:01@10`; `ValueError` if none."""
    address, at, vlan = text.partition("@")
    mac = parse_mac(address.strip())
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"not the address of a station: {address}")
    return mac, to_vlan(vlan) if at else None


def to_mac_limit(value: int | None) -> int | None:
    """How many stations a port may have; None for what is usual for a port of its kind."""
    if value is None:
        return None
    low, high = _MAC_LIMIT_RANGE
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def to_macs(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses: a list, or text with commas; nothing, or `none`, for none."""
    return _listed(value, lambda text: format_mac(parse_station(text.partition("@")[0])[0]))


def to_stations(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses, each with `@VLAN` where it is not the port's own; see `parse_station`."""
    return _listed(value, _station)


def _station(text: str) -> str:
    mac, vlan = parse_station(text)
    return format_mac(mac) if vlan is None else f"{format_mac(mac)}@{vlan}"


def _listed(value: str | Sequence[str], read: Callable[[str], str]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [] if value.lower() in _NONE else value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError("write MAC addresses as text in a list")
    if len(value) > _MAX_LISTED:
        raise ValueError(f"at most {_MAX_LISTED} addresses")
    return tuple(read(each) for each in value)
