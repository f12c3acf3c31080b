"""What is found, kind by kind, with credentials made at random; and what is none, whatever it says about secrets."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

import pytest

from filters.detectors.secrets import SecretsPack
from filters.engine import Engine
from tests.filters.detectors.secrets.making import (
    ALNUM,
    BASE64,
    HEX,
    URLSAFE,
    jwt,
    password,
    pem,
    some,
    uuid,
)

Make = Callable[[random.Random], tuple[str, str]]  # a text, and what in it has to be covered
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((SecretsPack(),), {"prompt": (), "answer": ()})


def _in(form: str, make: Callable[[random.Random], str]) -> Make:
    def text(rng: random.Random) -> tuple[str, str]:
        value = make(rng)
        return form.replace("@@", value), value

    return text


def _basic(rng: random.Random) -> str:
    return base64.b64encode(f"user{rng.randint(1, 99)}:{password(rng)}".encode()).decode()


def _letters(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters, k=length))


def _phrase(rng: random.Random) -> str:
    return "-".join(rng.sample(("maple", "monkey", "dragon", "tiger", "ocean", "falcon", "rocket"), 4))


def _random(length: int, alphabet: str = ALNUM, start: str = "") -> Callable[[random.Random], str]:
    return lambda rng: start + some(rng, length, alphabet)


KINDS: dict[str, tuple[str, Make]] = {
    "AWS key id": ("SECRET", _in("use @@, please", _random(16, UPPER, "AKIA"))),
    "AWS secret key": ("SECRET", _in("aws_secret_access_key = @@", _random(40, BASE64.replace("/", "")))),
    "GitHub token": ("SECRET", _in("push with @@.", _random(36, ALNUM, "ghp_"))),
    "GitHub fine-grained token": ("SECRET", _in("token: github_pat_@@", _random(82, ALNUM))),
    "GitLab token": ("SECRET", _in("my gitlab one is @@ ok", _random(20, ALNUM, "glpat-"))),
    "OpenAI key": ("SECRET", _in("OPENAI_API_KEY=@@", _random(48, ALNUM, "sk-"))),
    "OpenAI project key": ("SECRET", _in("the key is @@", _random(100, URLSAFE.replace("-", ""), "sk-proj-"))),
    "Anthropic key": ("SECRET", _in("(@@)", _random(95, ALNUM, "sk-ant-api03-"))),
    "Google key": ("SECRET", _in('{"key": "@@"}', _random(35, ALNUM, "AIza"))),
    "Stripe key": ("SECRET", _in("stripe.api_key = '@@'", _random(24, ALNUM, "sk_live_"))),
    "Slack token": ("SECRET", _in("@@", lambda r: f"xoxb-{some(r, 12, '0123456789')}-{some(r, 12, '0123456789')}-{some(r, 24)}")),
    "Slack webhook": ("SECRET", _in("curl https://hooks.slack.com/services/@@", lambda r: f"T{some(r, 8)}/B{some(r, 8)}/{some(r, 24)}")),
    "Discord webhook": ("SECRET", _in("https://discord.com/api/webhooks/@@", lambda r: f"{some(r, 18, '123456789')}/{some(r, 68, URLSAFE)}")),
    "Teams webhook": ("SECRET", _in("https://acme.webhook.office.com/webhookb2/@@", lambda r: f"{uuid(r)}@{uuid(r)}/IncomingWebhook/{some(r, 32, HEX)}/{uuid(r)}")),
    "Feishu webhook": ("SECRET", _in("机器人：https://open.feishu.cn/open-apis/bot/v2/hook/@@", uuid)),
    "DingTalk webhook": ("SECRET", _in("https://oapi.dingtalk.com/robot/send?access_token=@@", _random(64, HEX))),
    "WeCom webhook": ("SECRET", _in("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=@@", uuid)),
    "Telegram bot": ("SECRET", _in("bot @@ works", lambda r: f"{some(r, 10, '123456789')}:AA{some(r, 33, URLSAFE)}")),
    "Discord bot": ("SECRET", _in("bot @@ works", lambda r: f"M{some(r, 23)}.{some(r, 6)}.{some(r, 27)}")),
    "Tencent id": ("SECRET", _in("SecretId: @@", _random(32, ALNUM, "AKID"))),
    "Tencent key": ("SECRET", _in("SecretKey: @@", _random(32))),
    "Aliyun id": ("SECRET", _in("阿里云 @@ 的权限", _random(20, ALNUM, "LTAI"))),
    "Aliyun secret": ("SECRET", _in("AccessKeySecret=@@", _random(30))),
    "Huawei secret": ("SECRET", _in('"secretAccessKey": "@@"', _random(40))),
    "Baidu key": ("SECRET", _in("百度 @@", _random(22, ALNUM, "ALTAK"))),
    "Volcengine id": ("SECRET", _in("火山引擎：@@", _random(44, ALNUM, "AKLT"))),
    "Qiniu key": ("SECRET", _in("qiniu_secret_key: '@@'", _random(40, URLSAFE))),
    "npm token": ("SECRET", _in("//registry.npmjs.org/:_authToken=@@", _random(36, ALNUM, "npm_"))),
    "PyPI token": ("SECRET", _in("password = @@", _random(100, URLSAFE, "pypi-AgEIcHlwaS5vcmc"))),
    "JWT": ("JWT", _in("Cookie: session=@@; Path=/", jwt)),
    "bearer token": ("SECRET", _in("Authorization: Bearer @@", _random(40))),
    "bearer token, said": ("SECRET", _in("use the bearer token @@ there", _random(32, HEX))),
    "basic credentials": ("SECRET", _in("Authorization: Basic @@", _basic)),
    "generic key": ("SECRET", _in('"api_key": "@@"', _random(32))),
    "generic key, said": ("SECRET", _in("the api key is @@, keep it safe", _random(24))),
    "key said in Chinese": ("SECRET", _in("密钥为 @@ 请保存", _random(24))),
    "password, said": ("PASSWORD", _in("hi, my password is @@ thanks", password)),
    "password of something, said": ("PASSWORD", _in("the wifi password for the guest room is @@.", password)),
    "password in quotes": ("PASSWORD", _in('My passphrase is "@@"', password)),
    "password, pwd": ("PASSWORD", _in("user: bob pwd: @@", password)),
    "password in JSON": ("PASSWORD", _in('{"user": "bob", "password": "@@"}', password)),
    "password in .env": ("PASSWORD", _in("DB_PASSWORD=@@\nDB_HOST=x", password)),
    "password in code": ("PASSWORD", _in("conn(user='a', password='@@')", password)),
    "password in YAML": ("PASSWORD", _in("- name: DB_PASSWORD\n  value: @@", password)),
    "password in XML": ("PASSWORD", _in("<password>@@</password>", password)),
    "password as an option": ("PASSWORD", _in("mysql --password @@ shop", password)),
    "password in netrc": ("PASSWORD", _in("machine h.example.com login bob password @@", password)),
    "password in Chinese": ("PASSWORD", _in("我的密码是：@@，别告诉别人", password)),
    "password in Chinese, no mark": ("PASSWORD", _in("登录密码@@。", password)),
    "password in Chinese, changed": ("PASSWORD", _in("口令已经改成了 @@", password)),
    "password in both": ("PASSWORD", _in("我的password是@@", password)),
    "password it was changed to": ("PASSWORD", _in("I reset the root password to @@ yesterday", password)),
    "password, pw": ("PASSWORD", _in("use admin / pw @@ for the staging box", password)),
    "password of letters": ("PASSWORD", _in("My password is @@, please reset it", lambda r: "qeOY" + _letters(r, 12))),
    "passphrase": ("PASSWORD", _in("the wifi password is @@ btw", _phrase)),
    "passphrase in quotes": ("PASSWORD", _in('my passphrase is "@@"', _phrase)),
    "passphrase in settings": ("PASSWORD", _in("spring.datasource.password=@@\n", _phrase)),
    "passphrase in Chinese": ("PASSWORD", _in("密码：@@\n", _phrase)),
    "password with an underscore": ("PASSWORD", _in("net.password=@@", lambda r: f"Biscuit_{r.randint(100, 999)}")),
    "password beside an account in Chinese": ("PASSWORD", _in("账号zhangsan密码@@，你直接登", lambda r: f"panda{r.randint(2, 99)}")),
    "password in a table": ("PASSWORD", _in("| name | value |\n|---|---|\n| DB_PASSWORD | @@ |\n", password)),
    "credentials": ("PASSWORD", _in("Credentials: admin / @@", password)),
    "credentials, said": ("PASSWORD", _in("the credentials are root:@@ on that box", password)),
    "creds": ("PASSWORD", _in("creds: bob:@@\n", password)),
    "login with": ("PASSWORD", _in("just login with admin / @@ and look", password)),
    "password in brackets": ("PASSWORD", _in("ssh root@10.0.0.2 (password: @@)", password)),
    "password in bold": ("PASSWORD", _in("**Password:** @@", password)),
    "password of digits beside an account in Chinese": ("PASSWORD", _in("账号admin密码@@", _random(6, "123456789"))),
    "password in a call": ("PASSWORD", _in("smtp.login('bob@example.com', '@@')", password)),
    "password as auth": ("PASSWORD", _in('requests.get(url, auth=("bob", "@@"))', password)),
    "Mailgun key": ("SECRET", _in("i committed @@ to the repo", lambda r: f"{some(r, 32, HEX)}-{some(r, 8, HEX)}-{some(r, 8, HEX)}")),
    "mysql -p": ("PASSWORD", _in("mysql -u root -p'@@' shop", password)),
    "sshpass -p": ("PASSWORD", _in("sshpass -p @@ ssh root@10.0.0.2", password)),
    "docker login -p": ("PASSWORD", _in("docker login -u ci -p @@ registry.example.com", password)),
    "libpq string": ("CONNECTION_STRING", _in("host=db port=5432 user=app password=@@ dbname=shop", _random(14))),
    "JDBC string of letters": ("CONNECTION_STRING", _in("jdbc:sqlserver://db:1433;databaseName=hr;user=hr_app;password=@@;", lambda r: "Wr" + _letters(r, 12))),
    "GitLab token with a route": ("SECRET", _in("(@@).", lambda r: f"glpat-{some(r, 27)}.01{some(r, 7, HEX)}")),
    "Discord webhook, whole": ("SECRET", _in("post to @@ please", lambda r: f"https://discord.com/api/webhooks/{some(r, 18, '123456789')}/{some(r, 68, URLSAFE)}")),
    "New Relic key": ("SECRET", _in("auth failed for key @@ (status 401)", lambda r: "NRAK-" + some(r, 27, UPPER))),
    "token as user of a URL": ("SECRET", _in("git clone https://@@@github.com/acme/app.git", _random(40, HEX))),
    "token as user, nothing as password": ("SECRET", _in("pip install git+https://@@:x-oauth-basic@git.example.com/acme/app.git", _random(40, HEX))),
    "secret behind its name": ("SECRET", _in("and secret access key @@, region us-west-2", _random(40, BASE64.replace("/", "")))),
    "padded key, said": ("SECRET", _in("the storage account key is @@", lambda r: some(r, 86, BASE64) + "==")),
    "hash as token": ("SECRET", _in("use the api token @@ there", _random(40, HEX))),
    "key in a table": ("SECRET", _in("| name | value |\n|---|---|\n| API_KEY | @@ |\n", _random(32))),
    "AK in a file": ("SECRET", _in("HUAWEICLOUD_SDK_AK=@@\n", lambda r: "A7B9" + some(r, 16, UPPER))),
    "SK in a file": ("SECRET", _in("HUAWEICLOUD_SDK_SK=@@\n", _random(40))),
    "AK in Chinese": ("SECRET", _in("华为云AK：@@ SK：", lambda r: "A7B9" + some(r, 16, UPPER))),
    "SK in Chinese": ("SECRET", _in("SK：@@。", _random(40))),
    "secret of letters in Chinese": ("SECRET", _in("AccessKeySecret：@@，别外传", lambda r: "GWuEfvkPMgbvJs" + _letters(r, 16))),
    "curl user": ("PASSWORD", _in("curl -u admin:@@ https://h.example.com/x", password)),
    "URL user": ("PASSWORD", _in("git clone https://bob:@@@git.example.com/x.git", _random(16))),
    "Postgres URL": ("CONNECTION_STRING", _in("DATABASE_URL=@@", lambda r: f"postgres://app:{some(r, 12)}@db.example.com:5432/prod")),
    "MongoDB URL": ("CONNECTION_STRING", _in("@@", lambda r: f"mongodb+srv://app:{some(r, 12)}@c0.example.net/test")),
    "Redis URL": ("CONNECTION_STRING", _in("at @@ now", lambda r: f"redis://:{some(r, 12)}@10.0.0.3:6379/0")),
    "AMQP URL": ("CONNECTION_STRING", _in("at @@ now", lambda r: f"amqp://svc:{some(r, 12)}@mq:5672/")),
    "ADO string": ("CONNECTION_STRING", _in("Server=db;Database=x;User Id=sa;Password=@@;Encrypt=true", password)),
    "JDBC password": ("PASSWORD", _in("jdbc:mysql://h/db?user=root&password=@@", _random(12))),
    "account key": ("CONNECTION_STRING", _in("AccountName=x;AccountKey=@@;", _random(86, BASE64))),
    "Docker auth": ("SECRET", _in('{"auths": {"x": {"auth": "@@"}}}', _basic)),
    "RSA key": ("PRIVATE_KEY", _in("my key:\n@@\nthanks", lambda r: pem(r, 1600))),
    "EC key": ("PRIVATE_KEY", _in("@@", lambda r: pem(r, 160, "EC PRIVATE KEY"))),
    "OpenSSH key": ("PRIVATE_KEY", _in("@@", lambda r: pem(r, 400, "OPENSSH PRIVATE KEY", width=70))),
    "PGP key": ("PRIVATE_KEY", _in("@@", lambda r: pem(r, 2000, "PGP PRIVATE KEY BLOCK"))),
    "encrypted key": ("PRIVATE_KEY", _in("@@", lambda r: pem(r, 800, "ENCRYPTED PRIVATE KEY"))),
    "key in JSON": ("PRIVATE_KEY", _in('{"private_key": "@@\\n"}', lambda r: pem(r, 1600, "PRIVATE KEY", line="\\n"))),
    "key without end": ("PRIVATE_KEY", _in("@@", lambda r: pem(r, 640, ended=False))),
    "key in a quoted mail": ("PRIVATE_KEY", _in("> @@", lambda r: pem(r, 640, line="\n> "))),
    "PuTTY key": ("PRIVATE_KEY", _in("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: k\nPublic-Lines: 2\n@@", lambda r: f"{some(r, 64)}\n{some(r, 64)}\nPrivate-Lines: 1\n{some(r, 64)}\nPrivate-MAC: {some(r, 64, HEX)}")),
    "key in base64": ("PRIVATE_KEY", _in("client-key-data: @@", lambda r: base64.b64encode(pem(r, 400, "RSA PRIVATE KEY").encode()).decode())),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_is_found_whole(engine: Engine, kind: str) -> None:
    entity, make = KINDS[kind]
    rng = random.Random(kind)
    missed = []
    for _ in range(8):
        text, value = make(rng)
        start = text.index(value)
        covered = set[int]()
        for found in engine.find(text):
            if found.entity == entity:
                covered.update(range(found.start, found.end))
        if not covered >= set(range(start, start + len(value))):
            missed.append(text)
    assert len(missed) <= 1, missed  # a random value may hold a word that shows it to be none


ORDINARY = (
    "I forgot my password, can you help me reset it?", "the key is to relax and breathe", "密码忘了怎么办", "请输入密码：",
    "The token count is 4096 tokens per request", "Key points: 1) speed 2) cost", "My password is too weak, it needs at least 8 characters",
    "The password is incorrect!", "password must be 8-20 characters", "密码长度为8-20位", "密码是6位数字", "这个密码是错误的", "口令是2024年设置的",
    "密钥是什么意思", "Password: ********", 'api_key = "YOUR_API_KEY"', 'api_key="<your key>"', "export TOKEN=${GITHUB_TOKEN}", "password = get_password()",
    "def f(token: str, password: Optional[str] = None):", 'os.environ["API_KEY2"]', 'password = os.environ["DB_PASSWORD1"]', "password=args.password1",
    "secret: {{ .Values.secret1 }}", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    '"id": "123e4567-e89b-12d3-a456-426614174000"', '"key": "123e4567-e89b-12d3-a456-426614174000"', "cache_key: d41d8cd98f00b204e9800998ecf8427e",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk", "The bearer of bad news came in 2024", "basic information about plan B2",
    "The secret is out: sales grew 25% in Q3 2024", "Our password policy: 12+ characters, 90-day rotation", "password for the new portal will be sent by SMS",
    "the password reset link expires in 24 hours: https://example.com/reset/abc123", "keyboard shortcuts: Ctrl+Shift+F12", "Author: J2EE team",
    "access: granted at 10:32:44", "What is the difference between a password hash (bcrypt) and SHA-256?", "token limit is 128k, the key takeaway is GPT-4o",
    "docker run -u 1000:1000 image", "The passphrase is used to encrypt the key.", "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
    "The header says -----BEGIN RSA PRIVATE KEY----- and then base64 follows.", "-----BEGIN PRIVATE KEY-----...-----END PRIVATE KEY-----",
    '<input type="password" name="password1" autocomplete="current-password">', "his password was changed on 2024-05-01", "token = tokens[i+1]",
    "const token = response.data.token1;", "API key rotation: 2024-05-01T10:22:33Z", "sorted(items, key=operator.itemgetter(1))", 'primary_key=True, foreign_key="user.id1"',
    "access_token is required; see RFC6749", "the order key is ORD-2024-000123", "postgres://user:password@localhost/db", "redis://localhost:6379/0",
    "http://example.com:8080/a@b", "meet at 10:30, gate B12; token ring, secret santa, key lime pie", "SECRET_KEY = os.getenv('SECRET_KEY')", "Passwords: never reuse them in 2024.",
    "password: string // min 8", '"password": "required|min:8"', "key: value", "auth: true, token: null", "The pass is 1500m high", "s3://bucket/key=2024-01-01/part-0001.parquet",
    "https://<user>:<password>@host/repo.git", "git clone https://git@github.com/acme/app.git", "https://john.smith.consulting@example.com/calendar", "https://9f86d081884c7d659a2feaa0c55ad015@o123.ingest.sentry.io/42",
    "my password is out-of-date", "the password is not-case-sensitive-at-all", 'password: "settings-page-password-input"', "passwordField: login-form-user-name", "the password field is auto-filled by state-of-the-art tools",
    "he changed the password to something else", "set the password to null", "change the password to at least 12 characters", "we put the token to good use in 2024", "pw = getpass()", "PW2 engine, pw: ****", "10 kW / pw 3",
    "docker run -p 8080:80 nginx", "mysql -u root -p shop", "mkdir -p /var/lib/app1", "ssh -p 2222 root@10.0.0.2", "docker login -p $TOKEN1 registry", "nmap -p 1-65535 host", "mysql -pYOUR_PASSWORD",
    "cp -p a1 b2", "commit key 9fceb02d0ae598e95dc970b74767f19372d61af8", "the cache key d41d8cd98f00b204e9800998ecf8427e is stale", "token getUserById2FromDatabase is unexpected", "Unexpected token VERSION_2020_5_8",
    "| key | value |\n|---|---|\n| sort key | created_at_2024 |\n| token | required |", "| user | password |\n|---|---|\n| admin | see vault |", "cat secret | base64 -d", "credentials: see 1Password", "credentials are stored in S3/EU1",
    "credentials: user/password", "login with your Google/GitHub account", "log in: section 3/part4b", "login as user: see step2a", "creds: env/vault", "creds", "auth=(user, password1)", 'login("bob", "next_page")', "the password - as of 2024 - is longer", "a key (RFC7517) for it",
    "token 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed on mainnet", "public key AAAAC3NzaC1lZDI1NTE5AAAAIGPYz2Jx8V4W3Q2R5T7Y9U1I3O5P7A9S", "nextPageToken: CiAKGjBpNDd2Nmp2Zml2cXRwYjBpOXA", "mysql -p3306 -h db", "mongo -p 27017",
    'login("admin", "dashboard")', 'auth=("user", "pass")', "key fingerprint SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDyLzKqZt0lYbLq5Xs", "partition key dXNlcjoxMjM0NTY3ODkwMTIzNDU2Nzg5MA", "password (min8) field", "uuid 123e4567-e89b-12d3-a456-426614174000-12345678", "**Password:** see vault", "账号密码123", "用户密码base64编码", "the sk: language of Slovakia", "sk=USER#2024", "pk=ORDER, sk=ITEM2024", "HUAWEICLOUD_SDK_AK=YOUR_ACCESS_KEY_ID0", "OK：没问题，AK47是什么", "AK：见附件2024", "task=build2024release1",
    "用户密码sha256加密", "登录密码8位以上", "host=db user=app password=secret dbname=x", "user=me;x=1;password=getValue();", "class NullPointerExceptionForKey2 is the key NullPointerExceptionForKey2Handler",
)  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_about_secrets_has_none(engine: Engine, text: str) -> None:
    assert engine.find(text) == []
    assert engine.find(f"Well, {text}\n\nThat is all; 就这样。") == []
