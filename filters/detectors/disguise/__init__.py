"""Values written so that patterns pass them by, found by undoing the disguise and asking the detectors again.

The view (filters/view.py) reads one character for one. What takes several to read is undone here, in units that follow
from the text to the left (scanner.py): escapes, invisible characters and look-alikes (characters.py), digits in words,
numerals or unusual groups (numbers.py), addresses with written signs (addresses.py), and, for those who ask for it,
base64 and hexadecimal (encoded.py). A unit is rewritten with a map back to its source (decoded.py); the inner detectors
see it behind the text that stands before it, and what they find covers all of the disguised value. What they would
have found in the text as it stands is not reported a second time.

Undoing must not invent. Each kind says which units are plausible and which score a finding in it needs.
"""

from filters.detectors.disguise.detector import DisguiseDetector
from filters.detectors.disguise.encoded import Base64Detector

__all__ = ["Base64Detector", "DisguiseDetector"]
