"""How forwards, listening places and published services are written."""

import pytest

from vswitch.config.places import (
    Forward,
    Place,
    on_loopback,
    parse_forward,
    parse_listen,
    parse_socks,
    to_published,
    to_target,
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


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://:8080", "tcp://:8080"),
        ("tcp://[::]:8080", "tcp://:8080"),
        ("tcp://0.0.0.0:8080", "tcp://0.0.0.0:8080"),
        ("udp://192.0.2.1:53", "udp://192.0.2.1:53"),
        ("udp://[2001:DB8:0::1]:5000-5010", "udp://[2001:db8::1]:5000-5010"),
        ("tcp://:8000-8010", "tcp://:8000-8010"),
        ("tcp://:8000-8000", "tcp://:8000"),
    ],
)
def test_where_a_service_is_published(text, canonical):
    listen = to_published(text)
    assert str(listen) == canonical
    assert to_published(str(listen)) == listen
    assert to_published(listen) is listen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8080", "tcp://"),
        ("http://:80", "tcp://"),
        (80, "text in quotes"),
        ("tcp://", "port is missing"),
        ("tcp://:0", "1 to 65535"),
        ("tcp://:70000", "not in 0..65535"),
        ("tcp://:9-8", "FIRST-LAST"),
        ("tcp://:80-", "not a port"),
        ("tcp://:1-2000", "1024 ports at most"),
        ("tcp://host:80", "IP address"),
        ("tcp://::1:80", "brackets"),
    ],
)
def test_where_no_service_is_published(text, said):
    with pytest.raises(ValueError, match=said):
        to_published(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pc1:80", "pc1:80"),
        ("PC1.:80", "pc1:80"),
        ("10.77.0.5:80-90", "10.77.0.5:80-90"),
        ("[fd00::5]:80", "[fd00::5]:80"),
        ("web-1:8000-8010", "web-1:8000-8010"),
        ("a-80:80", "a-80:80"),
    ],
)
def test_where_it_leads(text, canonical):
    assert str(to_target(text)) == canonical


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":80", "name of a member"),
        ("pc1", "port is missing"),
        ("a_b:1", "a name is"),
        (1, "text in quotes"),
    ],
)
def test_where_it_cannot_lead(text, said):
    with pytest.raises(ValueError, match=said):
        to_target(text)
