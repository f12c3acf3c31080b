"""Write phone_plans.json from libphonenumber's metadata: `python -m filters.detectors.compile_phones`.

A worker holds no phone library (35 MB and 0.15 s of CPU, measured): for the plans whose numbers count without a `+` the
file has the expressions of all kinds of number, and for each calling code the lengths that a number may have. Run this
when the pinned version of `phonenumbers` changes; a test compares the file with what this module would write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from filters.compiled import render

TARGET: Final = Path(__file__).with_name("phone_plans.json")
# The calling codes of presidio's eight regions: United States and Canada, United Kingdom, Germany, France, Israel, India, Brazil.
CODES: Final = (1, 44, 49, 33, 972, 91, 55)
_KINDS: Final = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)


def build() -> dict[str, Any]:
    """The content of the file."""
    import phonenumbers

    lengths: dict[str, list[int]] = {}
    plans: dict[str, str] = {}
    for code, regions in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()):
        sizes: set[int] = set()
        expressions: list[str] = []
        for region in regions:
            data: Any = (
                phonenumbers.PhoneMetadata.metadata_for_nongeo_region(code)
                if region == "001"
                else phonenumbers.PhoneMetadata.metadata_for_region(region)
            )
            sizes.update(data.general_desc.possible_length)
            for kind in _KINDS:
                described = getattr(data, kind)
                if described is not None and described.national_number_pattern:
                    expressions.append(described.national_number_pattern)
        lengths[str(code)] = sorted(sizes)
        if code in CODES:
            plans[str(code)] = "|".join(dict.fromkeys("".join(one.split()) for one in expressions))
    return {"source": "phonenumbers " + phonenumbers.__version__, "lengths": lengths, "plans": plans}


def main() -> None:
    """Write the file."""
    TARGET.write_text(render(build()))


if __name__ == "__main__":
    main()
