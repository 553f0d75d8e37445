"""How forwards and listening places are written."""

import pytest

from vswitch.config.places import (
    Forward,
    Place,
    on_loopback,
    parse_forward,
    parse_listen,
    parse_socks,
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1080", Place("", 1080)),
        ("udp:53", Place("", 53, udp=True)),
        ("0.0.0.0:8080", Place("0.0.0.0", 8080)),
        ("udp:[::1]:53", Place("::1", 53, udp=True)),
        ("./db.sock", Place(path="./db.sock")),
        ("/run/user/1000/db", Place(path="/run/user/1000/db")),
    ],
)
def test_where_to_listen(text, place):
    assert parse_listen(text) == place
    assert parse_listen(str(place)) == place


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080=pc1:80", Forward(Place("", 8080), Place("pc1", 80))),
        (
            "udp:127.0.0.2:5353=[fd00::1]:53",
            Forward(Place("127.0.0.2", 5353, True), Place("fd00::1", 53, True)),
        ),
        ("/tmp/a=b=pc1:5432", Forward(Place(path="/tmp/a=b"), Place("pc1", 5432))),
        ("80=/run/app.sock", Forward(Place("", 80), Place(path="/run/app.sock"))),
    ],
)
def test_forwards(text, forward):
    assert parse_forward(text) == forward
    assert parse_forward(str(forward)) == forward


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_listen, "pc1:80", "listen at an IP address"),
        (parse_listen, "70000", "not in 0..65535"),
        (parse_listen, "udp:/run/x", "leave udp: out"),
        (parse_listen, "/" + "x" * 108, "107"),
        (parse_socks, "udp:1080", "SOCKS listens on TCP"),
        (parse_forward, "8080", "LISTEN=TARGET"),
        (parse_forward, "8080=pc1", "port is missing"),
        (parse_forward, "8080=:80", "needs a host and a port"),
        (parse_forward, "8080=pc1:0", "needs a host and a port"),
        (parse_forward, "udp:53=udp:pc1:53", "once, in front"),
    ],
)
def test_what_is_wrong_is_said(parse, text, reason):
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_loopback_is_the_default():
    assert on_loopback(Place("", 80)) == Place("127.0.0.1", 80)
    assert on_loopback(Place("192.0.2.1", 80)) == Place("192.0.2.1", 80)
    assert Place("::1", 80).is_loopback
    assert Place(path="/x").is_loopback
    assert not Place("::", 80).is_loopback
