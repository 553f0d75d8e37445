"""Handlers of `vswitch publish` and `vswitch unpublish`."""

from __future__ import annotations

from vswitch.config.places import to_published
from vswitch.errors import ConfigError, VswitchError
from vswitch.management.handlers.common import Args, Controlled, Result, note, text_of
from vswitch.management.status import PublishStatus, to_json
from vswitch.services.publish import Published, Publisher
from vswitch.services.publish_rules import read_rule


async def published(controlled: Controlled, args: Args) -> Result:
    """`vswitch publish` without operands: the rules in force."""
    return {"published": [to_json(publish_status(each)) for each in _of(controlled).rules]}


async def publish(controlled: Controlled, args: Args) -> Result:
    """`vswitch publish LISTEN TO`."""
    publisher, said = _of(controlled), args.get("rule")
    if not isinstance(said, dict):
        raise ConfigError("publish needs a rule")
    said = {key: value for key, value in said.items() if value is not None}
    rule = read_rule(said, "publish", publisher.subnet)
    published = await publisher.publish(rule)
    await note(controlled, args, {("publish", str(rule.listen)): said})
    published.live = not args.get("save", False)
    return to_json(publish_status(published))


async def unpublish(controlled: Controlled, args: Args) -> Result:
    """`vswitch unpublish LISTEN`."""
    said = text_of(args, "listen") or ""
    try:
        listen = to_published(said)
    except ValueError as error:
        raise ConfigError(f"unpublish {said}: {error}") from None
    gone = await _of(controlled).unpublish(listen)
    await note(controlled, args, {("publish", str(listen)): None})
    in_file = not gone.live and not args.get("save", False)
    return {**to_json(publish_status(gone)), "in_file": in_file}


def publish_status(published: Published) -> PublishStatus:
    """As `vswitch status` tells it."""
    counts, toward = published.counts, published.toward
    return PublishStatus(
        listen=counts.listen,
        to=str(published.rule.to),
        name=toward.name if toward is not None else "",
        address=toward.address if toward is not None else None,
        why=toward.why if toward is not None else "",
        live=published.live,
        open=counts.open,
        total=counts.total,
        up_bytes=counts.traffic.up,
        down_bytes=counts.traffic.down,
        failed=dict(counts.failed),
        drops=dict(counts.drops),
        ended=published.ended,
    )


def _of(controlled: Controlled) -> Publisher:
    if controlled.publisher is None:
        raise VswitchError("this switch cannot publish anything")
    return controlled.publisher
