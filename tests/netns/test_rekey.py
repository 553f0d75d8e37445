"""A new key of a running switch: no frame and no session is lost, and members know it for good."""

import pytest

from tests.netns.tools import Pings, ipv4, reach
from transport import load_key_file
from vswitch.errors import RefusedError
from vswitch.lab import wait_until
from vswitch.management.client import request


@pytest.mark.netns("ping")
def test_a_new_key_costs_no_frame_and_no_session(empty_lan):
    lan = empty_lan
    lan.serve()
    for name in ("pc1", "pc2"):
        lan.join(name, "--no-dns")
    lan.wait_connected("pc1", "pc2")
    one, address, state = lan.members["pc1"], ipv4(lan, "pc2"), lan.state(lan.switch)
    profile, socket = lan.state(one) / "members" / "pc1.toml", state / "control.sock"

    def sessions():
        return [(each["name"], each["since"]) for each in request(socket, "status")["ports"]]

    def moved():
        return not request(socket, "rekey-status")["waiting"]

    reach(one, address)
    before, old = sessions(), profile.read_text()
    ping = Pings(one, address)
    said = lan.command(lan.switch, "rekey", "--grace", "1d").stdout
    assert "good until" in said
    wait_until(moved, "members at the new key")
    with pytest.raises(RefusedError, match="a new key already"):
        request(socket, "rekey", grace=60.0)
    ping.all_answered()
    assert sessions() == before
    key = load_key_file(state / "server.key").public.text()
    assert key in profile.read_text() != old

    lan.programs["pc1"].stop()
    profile.write_text(old)  # as from a backup
    lan.programs["switch"].stop()
    lan.serve()
    lan.join("pc1", "--no-dns")
    lan.wait_connected("pc1", "pc2")
    wait_until(moved, "pc1 at the new key again")
    assert key in profile.read_text()
    assert "there is no older one" in lan.command(lan.switch, "rekey", "--finish").stdout
    assert not (state / "server.key.old").exists()
    reach(one, address)
