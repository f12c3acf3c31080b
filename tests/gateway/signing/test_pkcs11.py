"""A key in a token: SoftHSM, which speaks the same PKCS#11 as hardware."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings.audit import Pkcs11
from gateway.signing.fault import SignerError
from gateway.signing.pkcs11 import Pkcs11Signer

MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so")]
# In a process of its own: the library reads where its tokens are from the environment, once.
SCRIPT = r"""
import sys
from pathlib import Path
import pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
from gateway.errors import ConfigError
from gateway.settings.audit import Pkcs11, SignerSettings
from gateway.signing.keys import LogKeys, open_signer
from gateway.signing.pkcs11 import Pkcs11Signer
from gateway.signing.rotate import rotate
from gateway.tlog.checkpoint import open_checkpoint, sign_checkpoint
from gateway.tlog.note import verify_ed25519

module, folder = Path(sys.argv[1]), Path(sys.argv[2])
pin = folder / "pin"
pin.write_text("1234\n")
token = pkcs11.lib(str(module)).get_token(token_label="licet")
with token.open(rw=True, user_pin="1234") as session:
    for label in ("log", "other"):
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")},
            local=True,
        )
        curve.generate_keypair(mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=label)
wrong_pin = folder / "wrong"
wrong_pin.write_text("9876")
for token, label, file in (("licet", "log", wrong_pin), ("none", "log", pin), ("licet", "none", pin)):
    try:
        Pkcs11Signer(Pkcs11(module, token, label, file))
    except OSError as error:
        assert not {"9876", "1234"} & set(str(error).split()), "a PIN was told"
    else:
        raise AssertionError("a wrong PIN, token or label was taken")
settings = Pkcs11(module, "licet", "log", pin)
signer = open_signer(SignerSettings(pkcs11=settings), folder)
assert isinstance(signer, Pkcs11Signer)
verify_ed25519(signer.public, signer.sign(b"message"), b"message")
signer.close()
signer.close()
verify_ed25519(signer.public, signer.sign(b"again"), b"again")  # a session that was lost is opened again

other = Pkcs11Signer(Pkcs11(module, "licet", "other", pin))
(folder / "tokens").rename(folder / "away")
for _ in range(2):
    try:
        signer.sign(b"nowhere")
    except OSError as error:
        assert "see to its token" in str(error)
    else:
        raise AssertionError("a token that is not there signed")
(folder / "away").rename(folder / "tokens")
for one in (signer, other, signer):  # without a restart
    verify_ed25519(one.public, one.sign(b"back"), b"back")
other.close()
signer.close()
pin.write_text("9876")
for told in ("PinIncorrect", "not tried again", "not tried again"):  # tokens lock a PIN after a few wrong ones
    try:
        signer.sign(b"wrong")
    except OSError as error:
        assert told in str(error) and "9876" not in str(error), error
    else:
        raise AssertionError("a wrong PIN was taken")
pin.write_text("1234")
verify_ed25519(signer.public, signer.sign(b"right"), b"right")

keys = LogKeys(SignerSettings(), folder / "var", "gw1")
change = rotate(folder / "var", SignerSettings(), "gw1", to=SignerSettings(pkcs11=settings))
newest, old = keys.signers()
assert (newest.public, old.public) == (signer.public, change.old.public)
note = sign_checkpoint("gw1/s", 5, bytes(range(32)), newest, "gw1", [old])
assert open_checkpoint(note, signer.public).size == 5
assert LogKeys(SignerSettings(pkcs11=settings), folder / "var", "gw1").signers()[0].public == signer.public
try:
    LogKeys(SignerSettings(pkcs11=Pkcs11(module, "licet", "other", pin)), folder / "var", "gw1")
except ConfigError as error:
    assert "rotate" in str(error)
else:
    raise AssertionError("a key that nothing leads to was taken")

print("done")
"""


@pytest.mark.slow
def test_a_key_in_a_token_signs_and_takes_over(tmp_path: Path) -> None:
    module = next((one for one in MODULES if one.is_file()), None)
    if module is None:
        pytest.skip("SoftHSM is not installed: apt-get install softhsm2")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}
    make = ["softhsm2-util", "--init-token", "--free", "--label", "licet", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(make, env=environment, check=True, capture_output=True, timeout=60)
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(module), str(tmp_path)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (told.returncode, told.stdout) == (0, "done\n"), told.stderr


def test_a_token_without_library_or_pin_is_an_error_that_says_so(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    settings = Pkcs11(tmp_path / "none.so", "t", "l", pin)
    with pytest.raises(SignerError, match=r"audit\.signer\.pkcs11\.pin_file: .*/pin: No such file"):
        Pkcs11Signer(settings)
    for content in (b"", b"1" * 300):
        pin.write_bytes(content)
        with pytest.raises(OSError, match="a PIN has"):
            Pkcs11Signer(settings)
    pin.write_text("4711")
    with pytest.raises(OSError, match="token") as told:
        Pkcs11Signer(settings)
    assert "4711" not in str(told.value)
