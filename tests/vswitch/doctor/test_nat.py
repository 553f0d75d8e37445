"""In which order pauses are tried, for any NAT; and what a switch that does not look tells."""

import pytest
import trio

from transport import Grant, PostQuantum, PrivateKey, open_endpoint, open_udp
from transport.testing.cores import KnownPeers
from vswitch.addresses import HostPort
from vswitch.doctor import nat
from vswitch.doctor.nat import CLOSE_ENOUGH, FIRST_PAUSE, LONGEST_PAUSE, next_pause
from vswitch.joining.profiles import Profile
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Sight
from vswitch.state import StateDir

HERE = "127.0.0.1"


@pytest.mark.parametrize("seen", ["192.0.2.9:41022", None])
async def test_an_older_switch_does_not_say_where_it_sees_this_host(seen, tmp_path, monkeypatch):
    if seen is None:
        monkeypatch.setattr(nat, "ANSWER_WAIT", 0.2)
    switch, member, sock = PrivateKey.generate(), PrivateKey.generate(), open_udp(HERE)
    place = (HERE, sock.local_address[1])
    profile = Profile("pc1", (HostPort(*place),), switch.public, member, StateDir(tmp_path))

    async def receive(channel):
        if seen is not None:
            MemberDevice(channel, name="pc1", mtu=1500).send_control(Sight(seen))
        await trio.sleep_forever()

    authority = KnownPeers({member.public: Grant()}, {})
    async with (
        open_endpoint(sock, switch, authority=authority) as endpoint,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(endpoint.serve, receive)
        sighted = await nat.look(profile, place, 0.0, PostQuantum.AUTO)
        assert sighted == (seen and nat.Sighted(seen))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("life", [0.5, 1.5, 10.0, 17.0, 30.0, 44.0, 60.0])
def test_pauses_grow_and_close_in_on_what_a_mapping_outlives(life):
    alive, gone, pauses = 0.0, None, []
    while pause := next_pause(alive, gone):
        pauses.append(pause)
        alive, gone = (pause, gone) if pause < life else (alive, pause)
    assert len(pauses) <= 10
    assert max(pauses) <= LONGEST_PAUSE
    assert alive < life
    if life <= LONGEST_PAUSE:
        assert life <= gone <= FIRST_PAUSE + CLOSE_ENOUGH * alive
    else:
        assert (alive, gone) == (LONGEST_PAUSE, None)
        assert sum(pauses) < 120
