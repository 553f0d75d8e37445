"""The routes that a switch and a member have alike: the document, and the configuration."""

from __future__ import annotations

from typing import Any

from vswitch.api.openapi import document
from vswitch.api.roles import Role
from vswitch.api.table import Call, Route
from vswitch.errors import NotFound, Problem
from vswitch.management.answers import ConfigState, Configured, Document
from vswitch.management.handlers.common import Configurable

Tables = dict[str, Any]  # of a configuration, as its file has them


async def _openapi(call: Call) -> dict[str, Any]:
    assert call.subject.table is not None
    return document(call.subject.table)


async def _config(call: Call) -> dict[str, Any]:
    return _configuration(call).whole()


async def _put_config(call: Call) -> Configured:
    return await _configuration(call).replace(call.body)


async def _state(call: Call) -> ConfigState:
    return _configuration(call).state()


def _configuration(call: Call) -> Configurable:
    if (found := call.subject.configuration) is None:
        raise NotFound("there is no configuration here").of(Problem.NO_CONFIGURATION)
    return found


COMMON = (
    Route("GET", "/v1/openapi.json", Role.READ, Document, "this document", _openapi),
    Route("GET", "/v1/config", Role.READ, Tables, "all tables", _config, etag=dict),
    Route("PUT", "/v1/config", Role.ADMIN, Configured, "go by these", _put_config, body=Tables),
    Route("GET", "/v1/config/state", Role.READ, ConfigState, "who says what", _state),
)
