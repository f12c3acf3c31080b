"""Credentials in the places where people leave them, and ordinary text that speaks of keys and passwords.

A kind counts as found when nine of ten of its values are wholly covered: half a key is a key. The goal is 30 kinds of 32.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.quality.score import Finder, Sample, canonical, covers
from tests.quality.secrets_values import MAKERS
from tests.quality.writing import fill

ENTITIES: Final = ("SECRET", "PRIVATE_KEY", "PASSWORD", "CONNECTION_STRING", "JWT")
FOUND_SHARE: Final = 0.9

# Where a token of any service turns up: <name> is the service, <var> an environment variable, <key> the token.
_ANYWHERE: Final = (
    "hey, our <name> key stopped working: <key> can you have a look?",
    "here is the <name> token you asked for <key>",
    "i accidentally committed <key> to the public repo, what do I do now",
    "<name>的密钥是<key>，你帮我调一下接口",
    "帮我看看这个报错，我用的key是<key>。",
    "<var>=<key>\nDEBUG=false\n",
    'export <var>="<key>"',
    "services:\n  app:\n    environment:\n      - <var>=<key>\n      - TZ=UTC\n",
    'client = Client(\n    api_key="<key>",\n    timeout=30,\n)',
    '{"region": "eu-west-1", "<var>": "<key>", "retries": 3}',
    "curl -sS https://api.example.com/v1/items -H 'Authorization: Bearer <key>'",
    "2024-11-05T10:11:12Z ERROR auth failed for key <key> (status 401)",
    "const token = '<key>'; // TODO: move to vault",
    "| name | value |\n|---|---|\n| <var> | <key> |\n",
)  # fmt: skip
# Kinds that one can tell by themselves: slot, service, variable.
_TOKENS: Final = (
    ("github", "GitHub", "GITHUB_TOKEN"), ("github_fine", "GitHub", "GH_PAT"), ("gitlab", "GitLab", "GITLAB_TOKEN"), ("slack", "Slack", "SLACK_BOT_TOKEN"),
    ("slack_hook", "Slack", "SLACK_WEBHOOK_URL"), ("stripe", "Stripe", "STRIPE_SECRET_KEY"), ("openai", "OpenAI", "OPENAI_API_KEY"),
    ("anthropic", "Anthropic", "ANTHROPIC_API_KEY"), ("deepseek", "DeepSeek", "DEEPSEEK_API_KEY"), ("google", "Google Maps", "GOOGLE_API_KEY"),
    ("google_oauth", "Google", "GOOGLE_CLIENT_SECRET"), ("npm", "npm", "NPM_TOKEN"), ("pypi", "PyPI", "TWINE_PASSWORD"), ("sendgrid", "SendGrid", "SENDGRID_API_KEY"),
    ("twilio", "Twilio", "TWILIO_API_KEY"), ("mailgun", "Mailgun", "MAILGUN_API_KEY"), ("discord", "Discord", "DISCORD_BOT_TOKEN"),
    ("discord_hook", "Discord", "DISCORD_WEBHOOK"), ("telegram", "Telegram", "TELEGRAM_BOT_TOKEN"), ("digitalocean", "DigitalOcean", "DO_TOKEN"),
    ("huggingface", "Hugging Face", "HF_TOKEN"), ("shopify", "Shopify", "SHOPIFY_ADMIN_TOKEN"), ("databricks", "Databricks", "DATABRICKS_TOKEN"),
    ("newrelic", "New Relic", "NEW_RELIC_API_KEY"), ("postman", "Postman", "POSTMAN_API_KEY"), ("jwt", "session", "ACCESS_TOKEN"),
)  # fmt: skip
# Kinds that have places of their own.
_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws_pair": (
        "[default]\naws_access_key_id = @{aws_id}\naws_secret_access_key = @{aws_secret}\nregion = us-east-1\n",
        "my AWS keys are @{aws_id} and secret access key @{aws_secret}, region us-west-2",
        "AWS_ACCESS_KEY_ID=@{aws_id}\nAWS_SECRET_ACCESS_KEY=@{aws_secret}\n",
        's3 = boto3.client("s3", aws_access_key_id="@{aws_id}", aws_secret_access_key="@{aws_secret}")',
        '{"accessKeyId": "@{aws_id}", "secretAccessKey": "@{aws_secret}"}',
        "亚马逊云的AccessKey是@{aws_id}，aws secret key：@{aws_secret}",
    ),
    "github_old": ("github token: @{hex40}", "GITHUB_TOKEN=@{hex40}\n", "my old github access token is @{hex40}", "git clone https://@{hex40}@github.com/acme/app.git"),
    "github_url": ("git clone https://oauth2:@{github}@github.com/acme/app.git", "git remote set-url origin https://@{github}@github.com/acme/web", "npm i git+https://@{github}:x-oauth-basic@github.com/acme/lib.git"),
    "azure_storage": (
        "DefaultEndpointsProtocol=https;AccountName=acmestore;AccountKey=@{azure_key};EndpointSuffix=core.windows.net",
        "the azure storage account key is @{azure_key}",
        "AZURE_STORAGE_KEY=@{azure_key}\n",
        '"AzureWebJobsStorage": "DefaultEndpointsProtocol=https;AccountName=fn1;AccountKey=@{azure_key}"',
    ),
    "azure_sas": (
        "https://acme.blob.core.windows.net/backups/db.bak?sv=2022-11-02&ss=b&srt=o&sp=rwd&se=2025-12-31T00:00:00Z&spr=https&sig=@{azure_sig}",
        "azcopy copy 'https://acme.blob.core.windows.net/x?sp=r&st=2024-01-01T00:00:00Z&se=2024-02-01T00:00:00Z&sv=2022-11-02&sr=c&sig=@{azure_sig}' .",
    ),
    "twilio_auth": ("TWILIO_AUTH_TOKEN=@{hex32}\n", "twilio auth token is @{hex32}", "client = Client(account_sid, auth_token='@{hex32}')"),
    "tencent": (
        "SecretId: @{tencent_id}\nSecretKey: @{alnum32}\n",
        "腾讯云的SecretId是@{tencent_id}，SecretKey是@{alnum32}，你登一下",
        'cred = credential.Credential("@{tencent_id}", secret_key="@{alnum32}")',
        "TENCENTCLOUD_SECRET_ID=@{tencent_id}\nTENCENTCLOUD_SECRET_KEY=@{alnum32}\n",
    ),
    "aliyun": (
        "accessKeyId: @{aliyun_id}\naccessKeySecret: @{alnum30}\n",
        "阿里云AK：@{aliyun_id}，AccessKeySecret：@{alnum30}，别外传",
        "ALIBABA_CLOUD_ACCESS_KEY_ID=@{aliyun_id}\nALIBABA_CLOUD_ACCESS_KEY_SECRET=@{alnum30}\n",
        'auth = oss2.Auth("@{aliyun_id}", access_key_secret="@{alnum30}")',
    ),
    "huawei_cloud": (
        "华为云AK：@{huawei_id} SK：@{alnum40}",
        "HUAWEICLOUD_SDK_AK=@{huawei_id}\nHUAWEICLOUD_SDK_SK=@{alnum40}\n",
        'huaweicloud:\n  access_key: "@{huawei_id}"\n  secret_key: "@{alnum40}"\n',
    ),
    "baidu_cloud": (
        "百度智能云 API Key：@{baidu_id}，Secret Key：@{hex32}",
        "BAIDU_ACCESS_KEY=@{baidu_id}\nBAIDU_SECRET_KEY=@{hex32}\n",
        'baidu = {"access_key_id": "@{baidu_id}", "secret_access_key": "@{hex32}"}',
    ),
    "wechat_feishu": ("小程序AppSecret：@{hex32}", "app_id: cli_a1b2c3d4e5f6\napp_secret: @{alnum32}\n", "企业微信 corpsecret=@{opaque}", "飞书机器人的 App Secret 是 @{alnum32}", 'WX_APP_SECRET = "@{hex32}"'),
    "dingtalk_hook": ("https://oapi.dingtalk.com/robot/send?access_token=@{hex64}", "钉钉机器人地址 https://oapi.dingtalk.com/robot/send?access_token=@{hex64} 发到群里"),
    "rsa_key": ("@{rsa}\n", "here is my private key:\n@{rsa}\ncan you convert it to pkcs8?", "服务器私钥如下：\n@{rsa}\n", 'tls.key: |\n@{rsa}\n'),
    "ec_key": ("@{ec}\n", "why does openssl reject this?\n\n@{ec}\n", "私钥：@{ec}"),
    "openssh_key": ("cat ~/.ssh/id_ed25519\n@{openssh}\n", "用这个登录：\n@{openssh}\nuser: root"),
    "pgp_key": ("@{pgp}\n", "my PGP key, import with gpg --import\n@{pgp}\n"),
    "one_line_key": ('{"type": "service_account", "private_key": "@{one_line_rsa}\\n", "client_email": "x@y.iam.gserviceaccount.com"}', 'PRIVATE_KEY="@{one_line_rsa}"\n'),
    "bearer": ("Authorization: Bearer @{opaque}", "curl -H 'Authorization: Bearer @{opaque}' https://api.example.com/me", "use bearer token @{opaque} for staging", '{"headers": {"authorization": "Bearer @{opaque}"}}', "请求头加 Authorization: Bearer @{opaque} 就可以了"),
    "basic": ("Authorization: Basic @{basic}", "curl -H 'authorization: basic @{basic}' http://10.0.0.5/", '{"auths": {"registry.example.com": {"auth": "@{basic}"}}}'),
    "db_url": (
        "postgres://app:@{url_password}@db.internal:5432/shop",
        "DATABASE_URL=mysql://root:@{url_password}@127.0.0.1:3306/crm?charset=utf8mb4\n",
        "连不上 mongodb+srv://admin:@{url_password}@cluster0.ab1cd.mongodb.net/prod ，帮看下",
        "redis://:@{url_password}@cache:6379/0",
        'create_engine("postgresql+psycopg2://svc:@{url_password}@10.1.2.3/ledger")',
        "amqp://worker:@{url_password}@mq:5672/vhost",
    ),
    "http_url": ("https://emma:@{url_password}@files.example.com/report.pdf", "pip install --index-url https://ci:@{url_password}@pypi.internal.example/simple app", "ftp://upload:@{url_password}@ftp.example.org/in/"),
    "connection_string": (
        "Server=tcp:acme.database.windows.net,1433;Database=crm;User ID=svc;Password=@{sql_password};Encrypt=True;",
        "Data Source=10.0.0.8;Initial Catalog=ERP;User Id=sa;Pwd=@{sql_password};",
        "jdbc:sqlserver://db:1433;databaseName=hr;user=hr_app;password=@{sql_password};",
        "host=db port=5432 user=app password=@{sql_password} dbname=shop sslmode=require",
        "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=@{azure_key}",
    ),
    "said_en": (
        "my password is @{password}", "My password is @{password}, please reset my account", "the wifi password is @{password} btw", "login: emma, password: @{password}",
        "use admin / pw @{password} for the staging box", "I changed the root password to @{password} yesterday", "pass: @{password}", "username noah passwd @{password}",
        "The password for the shared drive is @{password}.", 'my passphrase is "@{password}"',
    ),
    "said_zh": (
        "我的密码是：@{password}", "我的密码是@{password}", "登录密码：@{password}，账号admin", "wifi密码@{password}", "账号zhangsan密码@{password}，你直接登", "密码改成@{password}了",
        "数据库密码是 @{password} ，别发群里", "用户名：root\n密码：@{password}\n", "初始口令为@{password}，登录后请修改", "服务器密碼：@{password}", "pwd是@{password}",
    ),
    "key_zh": ("密钥为@{alnum32}", "接口密钥：@{hex32}，回调地址不变", "API密钥是@{opaque}，有效期一年", "商户密钥 @{alnum32} 请妥善保管", "私钥口令：@{password}", "令牌：@{opaque}"),
    "config": (
        "username: admin\npassword: @{password}\nhost: 10.0.0.1\n", "spring.datasource.password=@{password}\n", '"password": "@{password}",', "  db_password: '@{password}'\n", "DB_PASS=@{password}\n",
        "PGPASSWORD=@{password} psql -h db -U app", "mysql -u root -p'@{password}' shop", "sshpass -p @{password} ssh root@10.0.0.2", "<property name=\"password\" value=\"@{password}\"/>", "net.password=@{password}; // prod",
    ),
    "env": (
        "SECRET_KEY=@{opaque}\nDEBUG=0\n", "JWT_SECRET=@{hex64}\n", "SESSION_SECRET='@{alnum40}'\n", "API_KEY=@{alnum32}\nAPI_URL=https://api.example.com\n", "CLIENT_SECRET=@{opaque}\n", "ENCRYPTION_KEY=@{hex64}\n",
        "DD_API_KEY=@{hex32}\n", "X-API-Key: @{alnum40}", 'api_key = "@{alnum40}"', "GET /v1/report?api_key=@{alnum32}&day=2024-11-05", '"client_secret": "@{opaque}"',
    ),
    "kubeconfig": ("users:\n- name: admin\n  user:\n    client-key-data: @{b64_blob}\n", "users:\n- name: ci\n  user:\n    token: @{jwt}\n", "apiVersion: v1\nkind: Secret\ndata:\n  tls.key: @{b64_blob}\n", "users:\n- name: dev\n  user:\n    token: @{opaque}\n"),
    "cookie": ("Cookie: theme=dark; session=@{opaque}; lang=en", "Set-Cookie: JSESSIONID=@{alnum32}; Path=/; HttpOnly", "Cookie: access_token=@{jwt}"),
}  # fmt: skip


def kinds() -> dict[str, tuple[str, ...]]:
    """Kind -> templates."""
    listed = {
        slot: tuple(
            t.replace("<name>", service).replace("<var>", variable).replace("<key>", "@{" + slot + "}")
            for t in _ANYWHERE
        )
        for slot, service, variable in _TOKENS
    }
    return listed | dict(_PLACES)


def samples(each: int, seed: int = 222) -> list[Sample]:
    """So many texts of each kind; its templates in turn, so that every place is tried, each kind from another one on."""
    rng = random.Random(seed)
    return [
        fill(templates[(first + turn) % len(templates)], MAKERS, rng, kind)
        for first, (kind, templates) in enumerate(kinds().items())
        for turn in range(each)
    ]


def ordinary() -> list[Sample]:
    """Chat, prose and code in which nothing is secret; `\\n` stands for a line end in the file."""
    path = Path(__file__).parent / "data" / "ordinary.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Sample(line.replace("\\n", "\n"), group="ordinary") for line in lines if line and not line.startswith("##")]


def by_kind(made: list[Sample], find: Finder) -> dict[str, float]:
    """Kind -> share of its values that findings of some kind of secret cover wholly."""
    sums: dict[str, tuple[int, int]] = {}
    for sample in made:
        found = [f for f in find(sample.text) if canonical(f.entity) == "SECRET"]
        hidden, total = sums.get(sample.group, (0, 0))
        hidden += sum(covers(found, label.start, label.end) for label in sample.labels)
        sums[sample.group] = hidden, total + len(sample.labels)
    return {kind: hidden / total for kind, (hidden, total) in sums.items()}


def kinds_found(shares: Mapping[str, float]) -> int:
    """How many kinds count as found."""
    return sum(share >= FOUND_SHARE for share in shares.values())
