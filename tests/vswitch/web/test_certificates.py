"""Certificates of files: made with openssl, changed while in use, and not fit for use."""

import shutil
import subprocess

import pytest

from vswitch.errors import ConfigError
from vswitch.web.certificates import Certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="missing: openssl")


def make(directory, *options):
    """A certificate and its key, written by openssl."""
    files = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-subj", "/CN=switch.example", "-days", "2", *(options or ["-nodes"])]
    command += ["-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_they_are_read_again_when_they_change(tmp_path, caplog):
    caplog.set_level("INFO", "vswitch")
    certificate = Certificate(*make(tmp_path))
    first = certificate.context()
    assert certificate.context() is first
    make(tmp_path)
    second = certificate.context()
    assert second is not first
    assert certificate.context() is second
    assert [each.getMessage().split()[0] for each in caplog.records] == ["certificate-loaded"]


@pytest.mark.parametrize("what", ["other key", "garbage", "gone", "password"])
def test_bad_files_keep_the_old_ones_and_are_told_once(tmp_path, caplog, what):
    cert, key = make(tmp_path)
    certificate = Certificate(cert, key)
    first = certificate.context()
    other = tmp_path / "other"
    other.mkdir()
    if what == "other key":
        shutil.copy(make(other)[1], key)
    elif what == "garbage":
        cert.write_bytes(b"\0garbage\n")
    elif what == "gone":
        key.unlink()
    else:
        make(tmp_path, "-passout", "pass:secret")
    assert certificate.context() is first
    assert certificate.context() is first
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("certificate-kept ")
    assert str(cert) in line
    make(tmp_path)
    assert certificate.context() is not first


def test_bad_files_at_the_start_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_text("garbage")
    with pytest.raises(ConfigError, match=r"cert\.pem.*no certificate with its key"):
        Certificate(tmp_path / "cert.pem")
