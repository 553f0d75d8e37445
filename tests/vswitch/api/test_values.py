"""Bodies that are no values."""

import json
from typing import Any

import pytest

from vswitch.api.values import read_body_untrusted
from vswitch.errors import ConfigError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (rb'{"port": {"\ud800": {"isolated": true}}}', "stand in pairs"),
        (rb'{"text": "\udfff\ud800"}', "stand in pairs"),
        (b"null", "must be an object"),
    ],
)
def test_what_is_no_text_and_no_object_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        read_body_untrusted(data, dict[str, Any])


def test_a_pair_is_a_character():
    assert read_body_untrusted(json.dumps({"\U0001f600": 1}).encode(), dict[str, Any])
