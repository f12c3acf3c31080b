"""Credentials with a form of their own, inside one token: by their beginning, or by a mark in the token's shape.

Every rule starts at a border: the character before is no letter or digit, or it is the letter of an escape (`\\n`).
A beginning is looked for with one expression over all of them, then the rules that have it are matched in place.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from filters.detectors.secrets import rules
from filters.detectors.secrets.rules import (
    CONNECTION_STRING,
    JWT,
    PASSWORD,
    PRIVATE_KEY,
    SECRET,
    Data,
    Secret,
    TokenRule,
    alternation,
    secret,
)
from filters.detectors.secrets.values import placeholder, scattered

# The shortest token that holds a credential: "ftp://a:bcd@e".
TOKEN_CHARS_MIN: Final = 13
_EDGE: Final = rb"(?![A-Za-z0-9])"
_HEX_UUID: Final = rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_DISCORD_HOOK: Final = rb"discord(?:app)?\.com/api/(?:v\d+/)?webhooks/[0-9]{17,20}/[\w-]{40,100}+"

# Credentials that gitleaks has no rule for, or a narrower one. Beginnings, expression, entropy, entity.
# Forms as their issuers document or show them: clouds of China, chat webhooks, model providers.
_OWN: Final[tuple[tuple[str, str, bytes, float, str], ...]] = (
    ("tencent-secret-id", "AKID", rb"AKID[A-Za-z0-9]{28,48}+" + _EDGE, 3.0, SECRET),
    ("aliyun-access-key-id", "LTAI", rb"LTAI[A-Za-z0-9]{12,26}+" + _EDGE, 2.5, SECRET),
    ("aliyun-sts-access-key-id", "STS.", rb"STS\.[A-Za-z0-9]{20,32}+" + _EDGE, 3.0, SECRET),
    ("volcengine-access-key-id", "AKLT", rb"AKLT[A-Za-z0-9_-]{28,64}+={0,2}", 3.0, SECRET),
    ("volcengine-sts-access-key-id", "AKTP", rb"AKTP[A-Za-z0-9_-]{28,64}+={0,2}", 3.0, SECRET),
    ("baidu-access-key-id", "ALTAK", rb"ALTAK-?[A-Za-z0-9]{16,32}+(?:/[0-9a-f]{40,64}+)?" + _EDGE, 3.0, SECRET),
    ("kingsoft-access-key-id", "AKLTb", rb"AKLTb[A-Za-z0-9_-]{12,}+", 3.0, SECRET),
    ("huawei-iam-access-key", "HPUA", rb"HPUA[A-Z0-9]{16}+" + _EDGE, 3.0, SECRET),
    ("jdcloud-access-key", "JDC_", rb"JDC_[A-Z0-9]{28}+" + _EDGE, 3.0, SECRET),
    ("sk-api-key", "sk-", rb"sk-(?=[\w-]{0,48}[0-9])(?=[\w-]{0,48}[A-Za-z0-9]{12})[\w-]{20,512}+", 3.4, SECRET),
    ("anthropic-key", "sk-ant-", rb"sk-ant-[\w-]{20,256}+", 3.4, SECRET),
    ("groq-api-key", "gsk_", rb"gsk_[A-Za-z0-9]{40,64}+" + _EDGE, 3.4, SECRET),
    ("xai-api-key", "xai-", rb"xai-[A-Za-z0-9]{60,90}+" + _EDGE, 3.4, SECRET),
    ("nvidia-api-key", "nvapi-", rb"nvapi-[\w-]{40,90}+", 3.4, SECRET),
    ("replicate-api-token", "r8_", rb"r8_[A-Za-z0-9]{37}+" + _EDGE, 3.4, SECRET),
    ("huggingface-token", "hf_", rb"hf_[A-Za-z0-9]{30,40}+" + _EDGE, 3.4, SECRET),
    ("tavily-api-key", "tvly-", rb"tvly-[\w-]{20,80}+", 3.4, SECRET),
    ("openrouter-api-key", "sk-or-", rb"sk-or-[\w-]{20,100}+", 3.4, SECRET),
    ("google-oauth-secret", "GOCSPX-", rb"GOCSPX-[\w-]{24,32}+", 3.0, SECRET),
    ("google-oauth-access-token", "ya29.", rb"ya29\.[\w-]{20,1024}+", 3.4, SECRET),
    ("google-api-key", "AIza", rb"AIza[\w-]{35}(?![\w-])", 3.4, SECRET),
    ("stripe-webhook-secret", "whsec_", rb"whsec_[A-Za-z0-9+/]{24,64}+={0,2}", 3.4, SECRET),
    ("docker-access-token", "dckr_pat_", rb"dckr_pat_[\w-]{20,40}+", 3.4, SECRET),
    ("docker-organization-token", "dckr_oat_", rb"dckr_oat_[\w-]{20,40}+", 3.4, SECRET),
    ("gitlab-token", "gl", rb"gl(?:pat|ptt|rtr?|dt|ft|soat|cbt|agent|imt|ffct|oas|wt)-[\w-]{20,300}+(?:\.[0-9a-z]{2}[.]?[0-9a-z]{7})?", 3.0, SECRET),
    ("atlassian-token", "ATATT3", rb"ATATT3[\w=-]{60,300}+", 3.4, SECRET),
    ("bitbucket-app-password", "ATBB", rb"ATBB[A-Za-z0-9]{32}+" + _EDGE, 3.4, SECRET),
    ("figma-token", "figd_", rb"figd_[\w-]{30,60}+", 3.4, SECRET),
    ("supabase-token", "sbp_", rb"sbp_[0-9a-f]{40}+" + _EDGE, 3.0, SECRET),
    ("supabase-secret-key", "sb_secret_", rb"sb_secret_[\w-]{20,60}+", 3.0, SECRET),
    ("netlify-token", "nfp_", rb"nfp_[A-Za-z0-9]{36,40}+" + _EDGE, 3.4, SECRET),
    ("render-api-key", "rnd_", rb"rnd_[A-Za-z0-9]{28,36}+" + _EDGE, 3.4, SECRET),
    ("square-token", "sq0csp-", rb"sq0csp-[\w-]{40,48}+", 3.4, SECRET),
    ("new-relic-key", "NR", rb"NR(?:AK|II|IQ|BR|SP|RA)-[A-Za-z0-9_-]{24,40}+" + _EDGE, 3.0, SECRET),
    ("new-relic-browser-key", "NRJS-", rb"NRJS-[0-9a-f]{19}+" + _EDGE, 2.5, SECRET),
    ("mailgun-key", "key-", rb"key-[0-9a-f]{32}+" + _EDGE, 3.0, SECRET),
    ("npm-token", "npm_", rb"npm_[A-Za-z0-9]{36}+" + _EDGE, 3.0, SECRET),
    ("pypi-token", "pypi-", rb"pypi-[\w-]{50,1000}+", 3.4, SECRET),
    ("slack-token", "xox", rb"xox[abcdeoprs][-.][\w.-]{10,256}+", 3.0, SECRET),
    ("slack-cookie", "xoxd-", rb"xoxd-[\w%/+=-]{20,512}+", 3.0, SECRET),
    ("github-token", "gh", rb"gh[pousr]_[A-Za-z0-9]{36,255}+" + _EDGE, 3.0, SECRET),
    ("aws-temporary-key-id", "ASIA", rb"ASIA[A-Z0-9]{16}+" + _EDGE, 2.8, SECRET),
    ("slack-webhook", "hooks.slack.com/", rb"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[\w/+-]{20,120}+", 0.0, SECRET),
    ("discord-webhook", "discord", _DISCORD_HOOK, 0.0, SECRET),
    ("discord-webhook", "https://discord", rb"https://" + _DISCORD_HOOK, 0.0, SECRET),
    ("discord-webhook", "https://ptb.discord", rb"https://ptb\." + _DISCORD_HOOK, 0.0, SECRET),
    ("discord-webhook", "https://canary.discord", rb"https://canary\." + _DISCORD_HOOK, 0.0, SECRET),
    ("teams-webhook", "webhook.office.com/", rb"webhook\.office\.com/webhookb2/[\w@/.-]{40,300}+", 0.0, SECRET),
    ("teams-webhook-legacy", "outlook.office", rb"outlook\.office(?:365)?\.com/webhook/[\w@/.-]{40,300}+", 0.0, SECRET),
    ("feishu-webhook", "open.feishu.cn/", rb"open\.feishu\.cn/open-apis/bot/(?:v2/)?hook/[\w-]{20,64}+", 0.0, SECRET),
    ("lark-webhook", "open.larksuite.com/", rb"open\.larksuite\.com/open-apis/bot/(?:v2/)?hook/[\w-]{20,64}+", 0.0, SECRET),
    ("dingtalk-webhook", "oapi.dingtalk.com/", rb"oapi\.dingtalk\.com/robot/send\?(?:[\w=]{1,60}&)?access_token=[0-9a-fA-F]{20,80}+", 0.0, SECRET),
    ("wecom-webhook", "qyapi.weixin.qq.com/", rb"qyapi\.weixin\.qq\.com/cgi-bin/webhook/\w{1,20}\?(?:[\w=]{1,60}&)?key=" + _HEX_UUID, 0.0, SECRET),
    ("private-key-base64", "LS0tLS1CRUdJTi", rb"LS0tLS1CRUdJTi[A-Za-z0-9+/]{0,40}?(?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)[A-Za-z0-9+/]{20,}+={0,2}", 0.0, PRIVATE_KEY),
    ("json-web-token", "eyJ", rb"eyJ[A-Za-z0-9_-]{10,}+(?:\.[A-Za-z0-9_-]{10,}+)(?:\.[A-Za-z0-9_-]*+){0,3}", 3.0, JWT),
    ("json-web-token-open", "eyJ", rb"(?=eyJ[A-Za-z0-9_-]{200})(eyJ[A-Za-z0-9_-]++\.?[A-Za-z0-9_-]*+)\Z", 3.0, JWT),
)  # fmt: skip
# What the header of a JWT names; other JSON in base64 is none (cursors, source maps).
_JOSE: Final = re.compile(rb'"(?:alg|enc|typ|kid|x5[ctu]|jku|cty)"')
_JWT_HEADER_CHARS: Final = 512

_BORDER: Final = rb"[^A-Za-z0-9](?:(?<=\\)[nrtbfu])?"

_TELEGRAM: Final = re.compile(rb"(?<![A-Za-z0-9])(?:bot)?([0-9]{8,10}:A[\w-]{33,36}+)(?![\w-])")
_DISCORD: Final = re.compile(rb"(?<![\w.-])[MNO][\w-]{22,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w-])")
_MAILGUN: Final = re.compile(rb"(?<![A-Za-z0-9-])[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![A-Za-z0-9-])")
_MAILGUN_CHARS: Final = 50
_URL: Final = re.compile(
    rb"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9+.-]{1,30})://([^\s/:@?#\\]{0,120}):([^\s@/?#\\]{1,200}|[^\s@\\]{1,120})@(?=[\w.\[$%{-])"
)
# Whose URLs name a data store: they are covered whole, a user, host and name of a store included.
_STORES: Final = re.compile(
    rb"(?:jdbc:)?(?:postgres(?:ql)?|mysqlx?|mariadb|mongodb|rediss?|amqps?|mssql|sqlserver|oracle|cockroachdb|clickhouse|cassandra|neo4j|bolt|couchdb|influxdb"
    rb"|ldaps?|nats|kafka|mqtts?|elasticsearch|snowflake|db2|tidb|dm|opengauss|gaussdb|kingbase8?|oceanbase|smtps?|imaps?|celery|sentry)(?:\+[a-z0-9_]+)?",
    re.IGNORECASE,
)  # fmt: skip
# Passwords of documentation, in URLs.
_SHOWN: Final = re.compile(
    rb"(?:pass(?:w(?:or)?d)?|pwd|pw|p|secret|user|root|test|token|key|x+|\*+|\.+|_+|postgres|mysql|guest|admin|api[_-]?key|[0-9]{1,5})",
    re.IGNORECASE,
)
_PORT: Final = re.compile(rb"[0-9]{1,5}/")  # `http://host:80/a@b` has no user
# What stands for the password where the user is a token.
_NO_PASSWORDS: Final = frozenset((b"x-oauth-basic", b"x-token-auth", b"x-access-token", b"oauth2", b"git"))
# A user alone, or with one of these. Sentry's are made to be public.
_URL_TOKEN: Final = re.compile(
    rb"https?://([\w~.-]{16,255})(?::(?:x-oauth-basic|x-token-auth|x-access-token|oauth2|git)?)?@(?![\w.-]{0,48}sentry)(?=[\w\[])"
)
_HEX_TOKEN: Final = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")
_SAS: Final = re.compile(rb"[?&;]sig=([A-Za-z0-9%+/]{40,120}(?:%3[dD]|=))")


class Tokens:
    """All rules for what stands in one token."""

    def __init__(self, data: Data) -> None:
        by_prefix: dict[bytes, list[TokenRule]] = {}
        listed = list(data.tokens)
        for name, own, regex, least, entity in _OWN:
            listed.append((TokenRule(name, entity, re.compile(regex), rules.SURE, least), (own.encode(),)))
        for rule, prefixes in listed:
            for prefix in prefixes:
                by_prefix.setdefault(prefix, []).append(rule)
        # A beginning leads to the rules of every beginning that starts with it: the shortest one is looked for.
        heads = [p for p in by_prefix if not any(p != q and p.startswith(q) for q in by_prefix)]
        self._rules = {h: tuple(r for p, some in by_prefix.items() if p.startswith(h) for r in some) for h in heads}
        words = alternation(heads)
        self._start = re.compile(b"(" + words + b")")
        self._inner = re.compile(_BORDER + b"(" + words + b")")
        self._marked = data.marked
        self._marks = tuple(sorted({rule_mark.translate(_SHAPE_OF) for _, rule_mark in data.marked}))

    def find(self, view: bytes, start: int, end: int, form: bytes) -> list[Secret]:
        """Secrets in view[start:end], a unit of that shape."""
        if end - start < TOKEN_CHARS_MIN:
            return []
        found: list[Secret] = []
        if start == 0:
            head = self._start.match(view, 0, end)
            if head is not None:
                self._tried(found, head[1], view, 0, end)
        for match in self._inner.finditer(view, max(start - 1, 0), end):
            self._tried(found, match[1], view, match.start(1), end)
        if b":" in form:
            if b"://" in form and b"@" in form:
                found += _urls(view, start, end)
            if b"0:a" in form:
                found += [
                    secret(SECRET, m.start(1), m.end(1), rules.SURE, "telegram-bot-token")
                    for m in _TELEGRAM.finditer(view, start, end)
                ]
        if b"." in form and end - start >= 58 and form.count(b".") >= 2:
            found += [
                secret(SECRET, *m.span(), rules.SURE, "discord-bot-token") for m in _DISCORD.finditer(view, start, end)
            ]
        if end - start >= _MAILGUN_CHARS and form.count(b"-") >= 2:
            found += [
                secret(SECRET, m.start(), m.end(), rules.SURE, "mailgun-signing-key")
                for m in _MAILGUN.finditer(view, start, end)
            ]
        if b"_" in form or b"." in form or b"|" in form or b"~" in form:
            for mark in self._marks:
                if mark in form:
                    self._by_mark(found, view, start, end)
                    break
        if b"aaa=" in form and b"sig=" in view[start:end]:
            found += [
                secret(CONNECTION_STRING, *m.span(1), rules.SURE, "azure-sas-signature")
                for m in _SAS.finditer(view, start, end)
            ]
        return found

    def _tried(self, found: list[Secret], head: bytes, view: bytes, at: int, end: int) -> None:
        best: Secret | None = None
        for rule in self._rules[head]:
            one = rule.at(view, at, end)
            if one is None or (one.rule.startswith("json-web-token") and not _is_jwt(view, one.start, one.end)):
                continue
            # Tokens that are longer today still match the rule for what was given out before.
            if best is None or one.end > best.end:
                best = one
        if best is not None:
            found.append(best)

    def _by_mark(self, found: list[Secret], view: bytes, start: int, end: int) -> None:
        unit = view[start:end]
        for rule, mark in self._marked:
            if mark in unit:
                for match in rule.find.finditer(view, max(start - 1, 0), end):
                    one = rule.judged(match)
                    if one is not None:
                        found.append(one)


_SHAPE_OF: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz123456789", b"a" * 52 + b"0" * 9
)


def _is_jwt(view: bytes, start: int, end: int) -> bool:
    """Whether the first part is the header of a signed or encrypted token."""
    first = view[start : min(end, start + _JWT_HEADER_CHARS)].split(b".", 1)[0]
    return _JOSE.search(decoded(first)) is not None


def decoded(value: bytes) -> bytes:
    """Base64 of either alphabet, cut to whole groups; empty where it is none."""
    value = value.translate(_URLSAFE).rstrip(b"=")
    cut = len(value) - len(value) % 4
    rest = value[cut:]
    if len(rest) > 1:
        rest += b"=" * (4 - len(rest))
        return _decoded(value[:cut] + rest)
    return _decoded(value[:cut])


_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):  # not base64: nothing is in it
        return b""


def _urls(view: bytes, start: int, end: int) -> list[Secret]:
    """URLs with a password: of data stores whole, of others the password."""
    found = [
        secret(SECRET, *m.span(1), rules.NAMED, "url-token")
        for m in _URL_TOKEN.finditer(view, start, end)
        if _HEX_TOKEN.fullmatch(m[1]) or (scattered(m[1]) and not placeholder(m[1]))
    ]
    for match in _URL.finditer(view, start, end):
        word = match[3]
        if placeholder(word) or _PORT.match(word) or word in _NO_PASSWORDS:
            continue
        if _STORES.fullmatch(match[1]):
            if not (_SHOWN.fullmatch(word) and (_SHOWN.fullmatch(match[2]) or not match[2])):
                found.append(secret(CONNECTION_STRING, match.start(), end, rules.SURE, "database-url"))
        elif not _SHOWN.fullmatch(word):
            found.append(secret(PASSWORD, *match.span(3), rules.NAMED, "url-password"))
    return found
