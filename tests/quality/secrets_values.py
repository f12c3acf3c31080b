"""Made-up credentials in the forms that services give out. They are put together at run time; the source holds none."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from typing import Final

from tests.quality.writing import Maker, Value, chars, digits, words

_ALNUM: Final = string.ascii_letters + string.digits
_URLSAFE: Final = _ALNUM + "-_"
_HEX: Final = "0123456789abcdef"
_UPPER: Final = string.ascii_uppercase + string.digits
_WORDS: Final = words(
    "summer dragon coffee purple monkey winter tiger orange silver rocket maple thunder panda ocean falcon biscuit"
)
_PEOPLE: Final = words("emma noah olivia liam mia lucas sofia henrik priya kenji")


def _b64(rng: random.Random, count: int) -> str:
    return base64.b64encode(rng.randbytes(count)).decode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base62(number: int) -> str:
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    text = ""
    while number:
        number, rest = divmod(number, 62)
        text = alphabet[rest] + text
    return text.rjust(6, "0")


def password_text(rng: random.Random) -> str:
    """As people choose them: a word with a number, leet, a phrase, or what a manager makes."""
    word = rng.choice(_WORDS)
    forms = (
        f"{word}{digits(rng, rng.choice((1, 2, 4)))}",
        f"{word.capitalize()}{digits(rng, 2)}!",
        f"{word.capitalize()}@{rng.randrange(1980, 2025)}",
        f"{rng.choice(_PEOPLE).capitalize()}{digits(rng, 4)}#",
        f"{word.replace('o', '0').replace('e', '3').capitalize()}_{digits(rng, 3)}",
        "-".join(rng.sample(_WORDS, 4)),
        chars(rng, _ALNUM + "!@#$%^&*", 14),
        chars(rng, _ALNUM, 16),
        f"Zh{digits(rng, 4)}{word}",
    )
    return rng.choice(forms)


def password(rng: random.Random) -> Value:
    """A password."""
    return Value(password_text(rng), "PASSWORD")


def url_password(rng: random.Random) -> Value:
    """One that may stand in a URL without encoding."""
    return Value(chars(rng, _ALNUM + "-_.!$", rng.choice((8, 12, 16, 20))), "CONNECTION_STRING")


def sql_password(rng: random.Random) -> Value:
    """One of a connection string of keys and values."""
    return Value(chars(rng, _ALNUM + "!@#%^*", 14), "CONNECTION_STRING")


def _secret(text: str) -> Value:
    return Value(text, "SECRET")


def aws_id(rng: random.Random) -> Value:
    """Access key id."""
    return _secret(rng.choice(("AKIA", "AKIA", "ASIA")) + chars(rng, string.ascii_uppercase + "234567", 16))


def aws_secret(rng: random.Random) -> Value:
    """Its secret: 30 random bytes."""
    return _secret(_b64(rng, 30))


def github(rng: random.Random) -> Value:
    """Personal, app and OAuth tokens since 2021: thirty characters and their CRC-32 in base 62."""
    body = chars(rng, _ALNUM, 30)
    return _secret(rng.choice(("ghp_", "ghp_", "gho_", "ghs_")) + body + _base62(zlib.crc32(body.encode())))


def github_fine(rng: random.Random) -> Value:
    """Fine-grained token."""
    return _secret(f"github_pat_11{chars(rng, _UPPER, 20)}_{chars(rng, _ALNUM, 59)}")


def hex40(rng: random.Random) -> Value:
    """What GitHub gave before 2021."""
    return _secret(chars(rng, _HEX, 40))


def hex32(rng: random.Random) -> Value:
    """Keys that nothing but their context tells."""
    return _secret(chars(rng, _HEX, 32))


def hex64(rng: random.Random) -> Value:
    """The same, of 256 bits."""
    return _secret(chars(rng, _HEX, 64))


def alnum32(rng: random.Random) -> Value:
    """The same, of letters and digits."""
    return _secret(chars(rng, _ALNUM, 32))


def alnum40(rng: random.Random) -> Value:
    """The same, of forty."""
    return _secret(chars(rng, _ALNUM, 40))


def gitlab(rng: random.Random) -> Value:
    """Personal access tokens: twenty characters, or since 2025 with a routing part and a checksum."""
    if rng.random() < 0.3:
        return _secret(f"glpat-{chars(rng, _URLSAFE, 27)}.01{chars(rng, string.digits + string.ascii_lowercase, 7)}")
    return _secret("glpat-" + chars(rng, _URLSAFE, 20))


def slack(rng: random.Random) -> Value:
    """Bot and user tokens."""
    if rng.random() < 0.6:
        return _secret(f"xoxb-{digits(rng, 12)}-{digits(rng, 13)}-{chars(rng, _ALNUM, 24)}")
    return _secret(f"xoxp-{digits(rng, 12)}-{digits(rng, 12)}-{digits(rng, 13)}-{chars(rng, _HEX, 32)}")


def slack_hook(rng: random.Random) -> Value:
    """The whole URL is the credential."""
    return _secret(f"https://hooks.slack.com/services/T{chars(rng, _UPPER, 10)}/B{chars(rng, _UPPER, 10)}/{chars(rng, _ALNUM, 24)}")  # fmt: skip


def stripe(rng: random.Random) -> Value:
    """Live secret and restricted keys, short and long."""
    return _secret(rng.choice(("sk_live_", "rk_live_")) + chars(rng, _ALNUM, rng.choice((24, 99))))


def openai(rng: random.Random) -> Value:
    """Project and service keys, and those before 2024; T3BlbkFJ is "OpenAI" in base64."""
    if rng.random() < 0.3:
        return _secret(f"sk-{chars(rng, _ALNUM, 20)}T3BlbkFJ{chars(rng, _ALNUM, 20)}")
    kind = rng.choice(("proj", "proj", "svcacct"))
    return _secret(f"sk-{kind}-{chars(rng, _URLSAFE, 74)}T3BlbkFJ{chars(rng, _URLSAFE, 74)}")


def anthropic(rng: random.Random) -> Value:
    """API and admin keys."""
    return _secret(f"sk-ant-{rng.choice(('api03', 'api03', 'admin01'))}-{chars(rng, _URLSAFE, 93)}AA")


def deepseek(rng: random.Random) -> Value:
    """sk- and 32 hexadecimal digits; other providers in China do the same."""
    return _secret("sk-" + chars(rng, _HEX, 32))


def google(rng: random.Random) -> Value:
    """API key."""
    return _secret("AIza" + chars(rng, _URLSAFE, 35))


def google_oauth(rng: random.Random) -> Value:
    """Client secret, or an access token."""
    return _secret(rng.choice(("GOCSPX-" + chars(rng, _URLSAFE, 28), "ya29.a0A" + chars(rng, _URLSAFE, 160))))


def azure_key(rng: random.Random) -> Value:
    """Storage account key: 64 bytes."""
    return _secret(_b64(rng, 64))


def azure_sig(rng: random.Random) -> Value:
    """The signature of a shared access URL, percent-encoded."""
    return _secret(_b64(rng, 32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"))


def npm(rng: random.Random) -> Value:
    """Granular and classic."""
    return _secret("npm_" + chars(rng, _ALNUM, 36))


def pypi(rng: random.Random) -> Value:
    """A macaroon; the beginning says pypi.org."""
    return _secret("pypi-AgEIcHlwaS5vcmcC" + chars(rng, _URLSAFE, 160))


def sendgrid(rng: random.Random) -> Value:
    """Three parts."""
    return _secret(f"SG.{chars(rng, _URLSAFE, 22)}.{chars(rng, _URLSAFE, 43)}")


def twilio(rng: random.Random) -> Value:
    """API key."""
    return _secret("SK" + chars(rng, _HEX, 32))


def mailgun(rng: random.Random) -> Value:
    """Old private keys and those of today."""
    if rng.random() < 0.5:
        return _secret("key-" + chars(rng, _HEX, 32))
    return _secret(f"{chars(rng, _HEX, 32)}-{chars(rng, _HEX, 8)}-{chars(rng, _HEX, 8)}")


def discord(rng: random.Random) -> Value:
    """The bot's id in base64, a time, a signature."""
    bot = _b64url((str(rng.randrange(4, 12)) + digits(rng, 17)).encode())
    return _secret(f"{bot}.G{chars(rng, _URLSAFE, 5)}.{chars(rng, _URLSAFE, 38)}")


def discord_hook(rng: random.Random) -> Value:
    """The whole URL is the credential."""
    return _secret(f"https://discord.com/api/webhooks/1{digits(rng, 18)}/{chars(rng, _URLSAFE, 68)}")


def telegram(rng: random.Random) -> Value:
    """The bot's id and a key that begins with AA."""
    return _secret(f"{rng.choice('5678')}{digits(rng, 9)}:AA{chars(rng, _URLSAFE, 33)}")


def tencent_id(rng: random.Random) -> Value:
    """SecretId."""
    return _secret("AKID" + chars(rng, _ALNUM, 32))


def aliyun_id(rng: random.Random) -> Value:
    """AccessKey id."""
    return _secret("LTAI5t" + chars(rng, _ALNUM, 18))


def alnum30(rng: random.Random) -> Value:
    """Aliyun's AccessKey secret."""
    return _secret(chars(rng, _ALNUM, 30))


def huawei_id(rng: random.Random) -> Value:
    """Twenty capitals and digits."""
    return _secret(chars(rng, _UPPER, 20))


def baidu_id(rng: random.Random) -> Value:
    """Access key of Baidu's cloud."""
    return _secret("ALTAK" + chars(rng, _ALNUM, 21))


def digitalocean(rng: random.Random) -> Value:
    """Personal token."""
    return _secret("dop_v1_" + chars(rng, _HEX, 64))


def huggingface(rng: random.Random) -> Value:
    """User token."""
    return _secret("hf_" + chars(rng, string.ascii_letters, 34))


def shopify(rng: random.Random) -> Value:
    """Admin token."""
    return _secret("shpat_" + chars(rng, _HEX, 32))


def databricks(rng: random.Random) -> Value:
    """Personal token."""
    return _secret("dapi" + chars(rng, _HEX, 32))


def newrelic(rng: random.Random) -> Value:
    """User key."""
    return _secret("NRAK-" + chars(rng, _UPPER, 27))


def postman(rng: random.Random) -> Value:
    """API key."""
    return _secret(f"PMAK-{chars(rng, _HEX, 24)}-{chars(rng, _HEX, 34)}")


def opaque(rng: random.Random) -> Value:
    """A bearer token without any form of its own."""
    return _secret(chars(rng, _URLSAFE, rng.choice((32, 40, 43, 64))))


def basic(rng: random.Random) -> Value:
    """User and password in base64."""
    return _secret(base64.b64encode(f"{rng.choice(_PEOPLE)}:{password_text(rng)}".encode()).decode())


def b64_blob(rng: random.Random) -> Value:
    """A key of a few hundred bytes on one line, as kubeconfig has it."""
    return _secret(base64.b64encode(_pem(rng, "RSA PRIVATE KEY", 600).encode()).decode())


def jwt(rng: random.Random) -> Value:
    """RFC 7519, three parts."""
    head = _b64url(json.dumps({"alg": rng.choice(("HS256", "RS256")), "typ": "JWT"}).encode())
    claims = {"sub": digits(rng, 10), "name": rng.choice(_PEOPLE), "iat": 1700000000 + rng.randrange(10**8)}
    return Value(f"{head}.{_b64url(json.dumps(claims).encode())}.{_b64url(rng.randbytes(32))}", "JWT")


def _pem(rng: random.Random, kind: str, count: int) -> str:
    # A DER sequence, or ssh-keygen's magic word, as every such file begins.
    head = b"openssh-key-v1\0" if kind.startswith("OPENSSH") else b"\x30\x82" + count.to_bytes(2, "big")
    body = base64.b64encode(head + rng.randbytes(count)).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"))


def rsa(rng: random.Random) -> Value:
    """PKCS 1 or 8."""
    return Value(_pem(rng, rng.choice(("RSA PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")), 1192), "PRIVATE_KEY")  # fmt: skip


def ec(rng: random.Random) -> Value:
    """SEC 1."""
    return Value(_pem(rng, "EC PRIVATE KEY", 121), "PRIVATE_KEY")


def openssh(rng: random.Random) -> Value:
    """What ssh-keygen writes."""
    return Value(_pem(rng, "OPENSSH PRIVATE KEY", 290), "PRIVATE_KEY")


def pgp(rng: random.Random) -> Value:
    """Armored, with its checksum line."""
    lines = _pem(rng, "PGP PRIVATE KEY BLOCK", 900).split("\n")
    return Value("\n".join((lines[0], "", *lines[1:-1], "=" + chars(rng, _ALNUM, 4), lines[-1])), "PRIVATE_KEY")


def one_line_rsa(rng: random.Random) -> Value:
    """As a JSON string or an environment variable has it, with \\n for line ends."""
    return Value(_pem(rng, "PRIVATE KEY", 1192).replace("\n", "\\n"), "PRIVATE_KEY")


MAKERS: Final[dict[str, Maker]] = {
    made.__name__: made
    for made in (
        password, url_password, sql_password, aws_id, aws_secret, github, github_fine, hex40, hex32, hex64, alnum30, alnum32, alnum40, gitlab,
        slack, slack_hook, stripe, openai, anthropic, deepseek, google, google_oauth, azure_key, azure_sig, npm, pypi, sendgrid, twilio, mailgun,
        discord, discord_hook, telegram, tencent_id, aliyun_id, huawei_id, baidu_id, digitalocean, huggingface, shopify, databricks, newrelic,
        postman, opaque, basic, b64_blob, jwt, rsa, ec, openssh, pgp, one_line_rsa,
    )
}  # fmt: skip
