"""Words that the rules of lexicon.py know by heart. Small, closed classes, written for this package."""

from __future__ import annotations

from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A name follows them.
TITLES: Final = _set(
    "mr mrs ms miss mx dr prof professor doctor sir dame lady lord madam rev reverend fr father sister brother rabbi "
    "imam sheikh pastor bishop archbishop cardinal pope saint president chancellor senator congressman congresswoman "
    "representative rep sen gov governor mayor ambassador judge justice attorney detective officer inspector sheriff "
    "constable sergeant sgt corporal cpl lieutenant lt captain capt major maj colonel col general gen admiral adm "
    "commander cmdr private pvt coach king queen prince princess duke duchess baron baroness count countess emperor "
    "aunt uncle grandma grandpa minister secretary chairman chairwoman nurse señor señora herr frau monsieur madame"
)
# They stand inside names, in small letters too.
PARTICLES: Final = _set(
    "de da do dos das di del della der den van von zu zur la le du bin ibn al el ben ter ten y e st"
)
# They end names.
SUFFIXES: Final = _set("jr sr ii iii iv phd md esq")
# They end the names of organizations.
CORPORATE: Final = _set(
    "inc corp corporation co company companies ltd limited llc llp plc gmbh ag sa bv nv oy ab group holdings partners "
    "industries enterprises systems solutions technologies technology software labs laboratories associates "
    "consulting capital ventures bank insurance airlines airways motors pharmaceuticals pharma media press news "
    "newspaper magazine times post journal herald tribune university college school academy institute institution "
    "hospital clinic church ministry department committee commission council agency authority association federation "
    "foundation society union league organization organisation party parliament senate congress court police army "
    "navy force forces guard bureau office center centre museum gallery library orchestra club fc united team "
    "stores store restaurant hotel hotels theatre theater prize award awards cup trophy act bill committee"
)
# They end the names of places.
LOCAL: Final = _set(
    "street st avenue ave road rd boulevard blvd lane ln drive dr court ct square sq plaza highway hwy parkway pkwy "
    "terrace place way alley bridge airport station stadium park lake river mountain mountains mount island islands "
    "beach bay valley canyon desert forest county district province prefecture region state territory city town "
    "village peninsula gulf sea ocean strait hills heights springs falls harbor harbour port"
)
# Words that a place of several words may begin with, besides those of the list.
PLACE_HEADS: Final = _set("new north south east west san santa saint st los las el la fort port mount lake")
# A place follows them.
LOCATIVE: Final = _set("in at from to near around outside inside across through visit visiting via toward towards of")
# People do these.
SPEECH: Final = _set(
    "said says say told tells asked asks added adds replied replies wrote writes noted notes explained explains "
    "argued argues insisted insists claimed claims denied denies announced announces warned warns admitted admits "
    "stated states testified thinks thought believes believed wants wanted knows knew called calls"
)
# A name follows them, whatever its letters.
INTRODUCED: Final = _set("is am im i'm called named name hi hey hello dear thanks thank bye with and from by")
