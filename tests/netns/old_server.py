"""An old switch over UDP, from the description alone: it learns each source, sends a broadcast to
where each other station is, once for each place, and nothing else that it does not know.

    python old_server.py PORT

So a broadcast comes back to its sender where a second station is known behind it.
"""

import socket
import sys


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", int(sys.argv[1])))
    print("ready", flush=True)
    places = {}
    while True:
        frame, sender = sock.recvfrom(1518)
        target, source = frame[:6], frame[6:12]
        places[source] = sender
        if target in places:
            sock.sendto(frame, places[target])
        elif target == b"\xff" * 6:
            for place in {place for mac, place in places.items() if mac != source}:
                sock.sendto(frame, place)


if __name__ == "__main__":
    main()
