"""English sentences from the templates, identities and formats of presidio-evaluator's data generator.

The package itself is not imported (it reads dotenv files, asks the network for hospitals, and wants scikit-learn and
transformers); its data files are read from where it is installed, and its recipe is followed: a template, one identity
whose fields are used once each, everything else from Faker. Its types are those of that set; places are one type here.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from faker import Faker

from tests.quality.score import Sample, Span

STRUCTURED: Final = ("CREDIT_CARD", "PHONE_NUMBER", "EMAIL_ADDRESS", "URL", "IBAN_CODE", "US_SSN", "IP_ADDRESS")
NAMED: Final = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")
JUDGED: Final = (*STRUCTURED, *NAMED, "DATE_TIME", "US_DRIVER_LICENSE")
INSTALL: Final = "pip install --no-deps presidio-evaluator==0.3.2"

_TYPES: Final = {
    "PERSON": "person name name_female name_male first_name first_name_male first_name_female first_name_nonbinary last_name last_name_male last_name_female",
    "LOCATION": "address country state state_abbr city street_name building_number secondary_address postcode zipcode",
    "ORGANIZATION": "organization",
    "NRP": "nationality nation_woman nation_plural",
    "DATE_TIME": "date_time date_of_birth day_of_week year",
    "CREDIT_CARD": "credit_card_number",
    "PHONE_NUMBER": "phone_number",
    "EMAIL_ADDRESS": "email",
    "URL": "url",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip_address",
    "US_DRIVER_LICENSE": "us_driver_license",
}
_TYPE: Final = {slot: entity for entity, slots in _TYPES.items() for slot in slots.split()}
# Fields of the identities under the generator's names for them.
_FIELDS: Final = {
    "prefix": "Title", "first_name": "GivenName", "last_name": "Surname", "street_name": "StreetAddress", "city": "City", "state_abbr": "State",
    "state": "StateFull", "zipcode": "ZipCode", "country": "CountryFull", "email": "EmailAddress", "phone_number": "TelephoneNumber",
    "date_of_birth": "Birthday", "job": "Occupation", "nationality": "NameSet", "age": "Age",
}  # fmt: skip
# The generator's own phone formats besides those of the identities; each # is a digit.
_PHONES: Final = (
    "##########", "##########", "###-###-####", "###-###-####", "###-#######", "07700 ### ###", "07700 ######", "07700######", "(07700) ### ###",
    "(07700) ######", "(07700)######", "+447700 ### ###", "+447700 ######", "+447700######", "+91##########", "0##########", "##########",
    *(f"+41 {n}# ### ## ##" for n in range(2, 10)), *(f"+41 (0){n}# ### ## ##" for n in range(2, 10)), "+46 (0)8 ### ### ##", "+46 (0)## ## ## ##",
    "+46 (0)### ### ##", "(###)###-####", "(###)###-####", "(###)###-####", "(###)###-####", "###.###.####", "###.###.####", "###-###-####x###",
    "###-###-####x####", "(###)###-####x###", "(###)###-####x####", "###.###.####x###", "###.###.####x####", "+1-###-###-####", "001-###-###-####",
    "+1-###-###-####x###",
)  # fmt: skip
_ADDRESSES: Final = (
    (20, "{building_number} {street_name} {secondary_address} {city} {state}"),
    (10, "{building_number} {street_name}\n {secondary_address}\n {city}\n {country} {postcode}"),
    (10, "{building_number} {street_name} {secondary_address}, {city}, {country}"),
    (25, "{street_address}\n{city}, {state_abbr} {postcode}"),
    (25, "{street_address}\n{city}\n, {state_abbr}\n {postcode}"),
    (25, "{street_address}\n{city}\n, {state_abbr}\n {country} {postcode}"),
    (3, "the corner of {street_name} and {street_name}"),
)
_AGES: Final = ("%#", "%#", "%#", "%#", "%", "100", "104")
_SLOT: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}|<(\w+)>")
# One text in twenty in lower case, as the generator's default is; people type so.
_LOWER_SHARE: Final = 0.05


def data() -> Path | None:
    """Where the generator's data files are, or None if the package is not installed."""
    spec = importlib.util.find_spec("presidio_evaluator")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "data_generator" / "raw_data"


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


class _Writer:
    """Fills slots from one identity first and from Faker after that."""

    def __init__(self, raw: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self._fake = Faker("en_US")
        self._fake.seed_instance(seed)
        text = (raw / "templates.txt").read_text(encoding="utf-8", errors="replace")
        self.templates = [line.strip().replace("\\n", "\n") for line in text.splitlines() if line.strip()]
        self._people = _rows(raw / "FakeNameGenerator.com_3000.csv")
        self._companies = [row["organization"] for row in _rows(raw / "companies_and_organizations.csv", "\t")]
        self._nations = _rows(raw / "nationalities.csv")
        self._licenses = [row["us_driver_license"] for row in _rows(raw / "us_driver_licenses.csv")]
        pick = self.rng.choice
        self._made: dict[str, Callable[[], str]] = {
            "credit_card_number": self._fake.credit_card_number,
            "phone_number": lambda: self._fake.numerify(pick(_PHONES)),
            "iban": self._fake.iban,
            "ssn": self._fake.ssn,
            "ip_address": lambda: self._fake.ipv4() if self.rng.random() < 0.8 else self._fake.ipv6(),
            "url": self._fake.url,
            "organization": lambda: pick(self._companies),
            "nationality": lambda: pick(self._nations)["nationality"],
            "nation_woman": lambda: pick(self._nations)["woman"],
            "nation_plural": lambda: pick(self._nations)["plural"],
            "us_driver_license": lambda: pick(self._licenses),
            "age": lambda: self._fake.numerify(pick(_AGES)),
            "address": self._address,
            "person": self._fake.name,
            "date_of_birth": lambda: str(self._fake.date_of_birth()),
            "date_time": lambda: str(self._fake.date_time()),
        }

    def _address(self) -> str:
        weights = [weight for weight, _ in _ADDRESSES]
        form = self.rng.choices([form for _, form in _ADDRESSES], weights)[0]
        return re.sub(r"\{(\w+)\}", lambda slot: str(getattr(self._fake, slot[1])()), form)

    def _identity(self) -> dict[str, str]:
        row = self.rng.choice(self._people)
        fields = {slot: row[column] for slot, column in _FIELDS.items()}
        middle = f" {row['MiddleInitial']}{self.rng.choice((' ', '. '))}" if self.rng.random() < 0.2 else " "
        fields["person"] = fields["name"] = row["GivenName"] + middle + row["Surname"]
        for part in ("first_name", "last_name", "prefix"):
            fields[f"{part}_{row['Gender']}"] = fields[part]
        return {slot: value for slot, value in fields.items() if value}

    def sample(self) -> Sample:
        number = self.rng.randrange(len(self.templates))
        identity = self._identity()
        pieces: list[str] = []
        labels: list[Span] = []
        at = length = 0
        template = self.templates[number]
        for match in _SLOT.finditer(template):
            slot = (match[1] or match[2]).lower()
            made = self._made.get(slot) or getattr(self._fake, slot)
            value = identity.pop(slot, "") or str(made())
            before = template[at : match.start()]
            start = length + len(before)
            length = start + len(value)
            pieces += (before, value)
            at = match.end()
            if slot in _TYPE:
                labels.append(Span(_TYPE[slot], start, length))
        pieces.append(template[at:])
        text = "".join(pieces)
        lowered = text.lower() if self.rng.random() < _LOWER_SHARE else text
        return Sample(lowered if len(lowered) == len(text) else text, tuple(labels), group=f"template {number}")


# What the engine calls what this set calls otherwise.
TRANSLATE: Final = {
    "CN_MOBILE": "PHONE_NUMBER", "CN_LANDLINE": "PHONE_NUMBER", "CN_BANK_CARD": "CREDIT_CARD", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION",
    "STREET_ADDRESS": "LOCATION", "ADDRESS": "LOCATION", "ZIP_CODE": "LOCATION", "ORG": "ORGANIZATION", "DOMAIN_NAME": "URL",
}  # fmt: skip


def samples(count: int, seed: int = 42) -> list[Sample]:
    """So many sentences, the same ones for the same seed. Raises FileNotFoundError when the package is not installed."""
    raw = data()
    if raw is None:
        raise FileNotFoundError(f"the English set reads presidio-evaluator's data: {INSTALL}")
    writer = _Writer(raw, seed)
    return [writer.sample() for _ in range(count)]
