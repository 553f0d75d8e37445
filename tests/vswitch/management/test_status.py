"""What a status says as JSON: keys are only ever added."""

from vswitch.management.status import JoinStatus, PortStatus, datagram_counts, to_json


def test_the_datagram_lane_is_counted_by_its_name_and_by_its_first_one():
    counts = datagram_counts(1, 2, 3)
    port = PortStatus(port=1, name="pc1", state="up", **counts)
    join = JoinStatus(name="pc1", state="up", server="192.0.2.1:7450", **counts)
    for status in map(to_json, (port, join)):
        for lane in ("datagram", "loose"):
            assert [status[f"{lane}_{what}"] for what in ("sent", "received", "lost")] == [1, 2, 3]
