"""Record the conversations anew: `python -m tests.older CHECKOUT [PYTHON]`.

CHECKOUT is one of cbe63b7; PYTHON, which runs it, has its libraries.
"""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from tests.older.conversation import (
    MEMBER,
    RECORDED,
    SWITCH,
    Conversation,
    fixed_ephemerals,
)
from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.wire.datagrams import Suite


def record(checkout, python, role, suite, wish):
    """What the older one has sent, in which step, and what it knew at the end."""
    own, other = (MEMBER, SWITCH) if role == "member" else (SWITCH, MEMBER)
    argv = [python, "-P", str(Path(__file__).with_name("peer.py"))]
    pipe = subprocess.PIPE
    answers, known = [], {}
    with (
        patch.object(PrivateKey, "generate", fixed_ephemerals()),
        subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, text=True, env={"PYTHONPATH": str(checkout)}
        ) as older,
    ):
        who = {"role": role, "suite": suite.name, "here": own[1], "there": other[1]}
        keys = {"key": own[0].raw().hex(), "other": other[0].raw().hex()}
        older.stdin.write(json.dumps(who | keys) + "\n")

        def ask(datagrams):
            older.stdin.write(json.dumps([data.hex() for data in datagrams]) + "\n")
            older.stdin.flush()
            sent, now_known = json.loads(older.stdout.readline())
            known.update(now_known)
            answers.append(sent)
            return [bytes.fromhex(text) for text in sent]

        conversation = Conversation(role, suite, wish)
        conversation.hold(ask)
        older.stdin.close()
    return {
        "older": role,
        "suite": suite.name,
        "pq": wish.value,
        "asked": [data.hex() for data in conversation.asked],
        "answers": {str(n): sent for n, sent in enumerate(answers) if sent},
        "known": known,
    }


def main():
    checkout, python = Path(sys.argv[1]).resolve(), (sys.argv[2:] or [sys.executable])[0]
    recorded = [
        record(checkout, python, role, suite, wish)
        for role in ("member", "switch")
        for suite in Suite
        for wish in PostQuantum
    ]
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
