"""On which line of a file a problem is."""

import pytest

from vswitch.config.lines import MAX_LINES, line_of

TEXT = """
[switch]
guard = true

[rules]
list = [
  "deny a -> b",
]
tests = ["a -> b denied"]
[port."*"]
vlan = 7
isolated = 3
[[publish]]
listen = "tcp://:1"
[[publish]]

listen = "tcp://:2"
[network.lab.port]
pc1.mirror = "x"
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("switch.guard = 3: must be", 3),
        ("port.*.isolated = 3: must be on or off", 12),
        ("rules.list 1, 'deny a -> b': no", 6),
        ("rules.tests 1, 'a': it is", 9),
        ("publish[2].listen = 'tcp://:2': no", 17),
        ("publish[2]: to is missing", 15),
        ("publish[3]: to is missing", None),
        ("network.lab.port.pc1.mirror = 'x': no", 19),
        ("port: unknown option vlam: known are", None),
        ("switch: unknown option guard: did you mean", 3),
        ("network.x: no", None),
        ("", None),
        (": x", None),
    ],
)
def test_it_is_where_the_key_is(message, line):
    assert line_of(TEXT, message) == line


def test_a_file_that_is_too_long_has_no_lines():
    assert line_of("a = 1\n" + "\n" * MAX_LINES, "a = 1: no") is None
