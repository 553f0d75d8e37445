"""What each refusal means to the program of the member."""

import pytest

from transport import Result
from vswitch.joining.reach import _CODES
from vswitch.members.protocol import ByeCode
from vswitch.registry.rules import EnrolRefused, refusal

FINAL = {
    ByeCode.REVOKED,
    ByeCode.NAME_TAKEN,
    ByeCode.ADDRESS_TAKEN,
    ByeCode.INVITE_USED,
    ByeCode.INVITE_EXPIRED,
    ByeCode.UNKNOWN,
    ByeCode.REKEYED,
}
NEVER_A_MEMBER = FINAL - {ByeCode.REVOKED, ByeCode.ADDRESS_TAKEN, ByeCode.REKEYED}


@pytest.mark.parametrize("code", ByeCode)
def test_only_what_time_does_not_mend_is_final_and_a_key_that_may_be_known_stays(code):
    assert refusal(code).final == (code in FINAL)
    assert refusal(code).known == (code not in NEVER_A_MEMBER)


def test_a_code_of_a_newer_switch_is_tried_again_with_the_same_key():
    assert not refusal(200).final
    assert refusal(200).known


@pytest.mark.parametrize("result", sorted(set(Result) - {Result.OK, Result.HYBRID}))
def test_every_refusal_of_a_handshake_has_its_sentence(result):
    refused = EnrolRefused(_CODES[result])
    assert refused.code is ByeCode[result.name.replace("CREDENTIAL", "INVITE")]
    assert str(refused) == refusal(refused.code).sentence != ""


def test_a_sentence_that_says_more_is_taken():
    assert str(EnrolRefused(ByeCode.UNKNOWN, "no such invite")) == "no such invite"
    assert str(EnrolRefused(ByeCode.UNKNOWN)) == "this key is not of a member"
