"""Speech acts beside real names: a prompt that asks for a public figure's voice, an answer that claims to be one.

A finding needs an act and a name: to mention a person, to deny being one, or to speak of a person's assistant is none.
It spans from the act to the end of the name. Requests are looked for in prompts (IMPERSONATION_PUBLIC_FIGURE), claims in
answers (IMPERSONATION_SELF_CLAIM).

Reach is bounded: from the end of an act to the start of the name REACH_CHARS in English, HAN_REACH_CHARS in Chinese,
and never past the end of a sentence. In claims only titles may stand between, so a stream is held for few characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from filters.detectors import figures
from filters.detectors.figures import NONE, OPEN, HanNames, LatinNames
from filters.finding import Finding, Scanner, Sleeper, Walking, quiet_but

REQUEST: Final = "IMPERSONATION_PUBLIC_FIGURE"
CLAIM: Final = "IMPERSONATION_SELF_CLAIM"
DATA: Final = "public_figures.json"
CODE_VERSION: Final = 1  # raise when a change of code or of the tables below changes a finding

REACH_CHARS: Final = 80  # our choice: a title and an office, as in "the chief executive of Tesla and SpaceX,"
HAN_REACH_CHARS: Final = 12  # the same in Chinese
_AFTER_CHARS: Final = 18  # what is looked at behind a name, at most
_BEFORE_CHARS: Final = 24  # and before a request, for "do not"
_HAN_AFTER_CHARS: Final = 14
_SCORE: Final = 0.9  # our choice: certain as to the words, not as to what is meant by them

_WORD: Final = re.compile(rb"[a-z0-9]+")
_GAP: Final = re.compile(rb"[^a-z0-9\x01\x02]{1,6}")
_STOP: Final = re.compile(rb"[.!?;]")
_ANY_WORD_CHAR: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"
_FEW_CHARS: Final = 64  # as a stream brings them
_WORD_CHARS_MAX: Final = 16  # longer than any word an act begins with

# Words of an act, by its first word. "you're" is two words here.
_REQUEST_ACTS: Final = (
    "pretend to be", "pretend you are", "pretend you re", "pretend that you are", "pretend that you re", "pretend being",
    "pretending to be", "act as", "acting as", "act like you are", "act like you re", "speak as", "speaking as", "talk as",
    "respond as", "reply as", "answer as", "write as", "writing as", "tweet as", "post as", "impersonate", "impersonating",
    "imitate", "role play as", "roleplay as", "role playing as", "roleplaying as", "play the role of", "play the part of",
    "take on the role of", "assume the role of", "assume the identity of", "take on the persona of", "adopt the persona of",
    "you are now", "you re now", "you are", "you re", "as if you were", "as if you are", "as if you re", "as though you were",
    "in the voice of", "in the name of", "on behalf of", "official statement by", "official statement from", "official statement of",
    "public statement by", "public statement from", "sign as", "sign it as", "sign this as", "signed as", "signed by", "sign off as",
    "pose as", "posing as",
)  # fmt: skip
_CLAIM_ACTS: Final = (
    "i am", "i m", "my name is", "my name s", "this is", "it is i", "as", "sincerely", "regards", "yours truly", "yours faithfully",
    "respectfully", "warmly", "cordially", "signed", "speaking as", "you are speaking with", "you are talking to",
    "you re speaking with", "you re talking to",
)  # fmt: skip
# Words between an act of a request and a name that show the name to be something else than the role.
_DETACHED: Final = frozenset(
    b"about for who whose whom that which with to against from on by at and or then where when while if but not never fan fans critic "
    b"expert historian biographer assistant journalist reporter interviewer supporter friend neighbor someone somebody translator analyst "
    b"lawyer unlike than versus vs tell write explain describe can does do know knows like in".split()
)
# Words that may stand between a claim and a name.
_TITLES: Final = frozenset(
    b"the real actual true one and only indeed really actually in fact mr mrs ms dr sir president former vice prime minister chancellor king "
    b"queen prince princess pope senator governor secretary general ceo founder chairman chief executive officer of tesla spacex microsoft "
    b"apple google meta amazon openai nvidia united states kingdom us uk france russia china india singer actor actress rapper your own "
    b"none other than world famous legendary".split()
)
_ABBREVIATIONS: Final = frozenset(b"mr mrs ms dr st jr sr gov sen rep gen u s".split())
# Behind a name: it belongs to somebody else's role, or to a thing.
_OTHER_THAN_NAME: Final = re.compile(
    rb"'s?(?![a-z0-9])|[ \n]{1,3}(?:fans?|expert|supporter|critic|biographer|historian|assistant|impersonator|parody|lookalike|interview|quote)"
    rb"(?![a-z0-9])"
)
_FIRST_PERSON: Final = re.compile(rb",?\s{1,3}(?:i|my|we)(?![a-z0-9])")
_CLAUSE_END: Final = re.compile(rb"\s{0,3}(?:[.,!:;\-\n\"]|\Z|speaking|here|calling|and\s+i(?![a-z]))")
_NEGATED: Final = re.compile(rb"(?:\bnot|\bnever|n't|\bcannot|\brefuse to|\bwithout)[\s,]+(?:\w+[\s,]+)?\Z")


@dataclass(frozen=True, slots=True)
class _Trie:
    """Acts as a tree of words. `ends` is the act that ends here."""

    next: dict[bytes, _Trie]
    ends: list[str]


class _LatinActs:
    """A table of acts as a tree, with the expressions that find where one may begin."""

    def __init__(self, acts: Sequence[str], *, claims: bool) -> None:
        self.claims = claims
        self.entity = CLAIM if claims else REQUEST
        self.root = _Trie({}, [])
        for act in acts:
            node = self.root
            for word in act.encode().split():
                node = node.next.setdefault(word, _Trie({}, []))
            node.ends.append(act)
        self.firsts = frozenset(self.root.next)
        self.anchor = _anchor(self.root, whole=False)
        self.whole = _anchor(self.root, whole=True)


class LatinScanner(Walking):
    """Acts and names in Latin letters, on the folded view, word by word from each word that an act begins with."""

    def __init__(self, acts: _LatinActs, names: LatinNames) -> None:
        self._acts = acts
        self._names = names
        self._claims = acts.claims
        self._entity = acts.entity
        self._firsts = acts.firsts
        self._at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(view)
        at = self._at
        last = size
        if not final:
            if size - at <= _FEW_CHARS:
                low = view[at:]
                if size - at <= _WORD_CHARS_MAX and low.isalnum():
                    return found
                low = low.lower()
                if self._firsts.isdisjoint(_WORD.findall(low)):
                    word = len(low) - len(low.rstrip(_ANY_WORD_CHAR))
                    self._at = size - word if word <= _WORD_CHARS_MAX else size
                    return found
            # One character before `at` is seen, so that an act does not begin inside a word; and a leading byte, so that every
            # word has a border before it that the expression can start with.
            offset = max(0, at - _BEFORE_CHARS - 1) - 1
            low = b"\0" + view[offset + 1 :].lower()
            # The word that is being written may become the first of an act.
            word = min(len(low) - len(low.rstrip(_ANY_WORD_CHAR)), size - at)
            if word <= _WORD_CHARS_MAX:
                last = size - word
        else:
            offset = max(0, at - _BEFORE_CHARS - 1) - 1
            low = b"\0" + view[offset + 1 :].lower()
        if last <= at:
            return found
        at -= offset + 1
        # In a text that has ended, only whole acts count; the expression for them stops at far fewer words.
        anchors = self._acts.whole if final else self._acts.anchor
        while True:
            anchor = anchors.search(low, at)
            if anchor is None or anchor.start() + 1 >= last - offset:
                self._at = last
                return found
            start = anchor.start() + 1
            end = self._end(low, start, final)
            if end == OPEN:
                self._at = start + offset
                return found
            if end != NONE:
                found.append(Finding(self._entity, start + offset, end + offset, _SCORE))
            at = max(anchor.end(), end)

    def _end(self, low: bytes, start: int, final: bool) -> int:
        """The end of the name that an act at `start` reaches; or OPEN or NONE."""
        if not self._claims and _NEGATED.search(low, max(0, start - _BEFORE_CHARS), start):
            return NONE
        node = self._acts.root
        at = start
        size = len(low)
        best = NONE
        opened = False
        while True:
            word = _WORD.match(low, at)
            if word is None:
                break
            if not final and word.end() == size:
                opened |= any(w.startswith(word[0]) for w in node.next)
                break
            following = node.next.get(word[0])
            if following is None:
                break
            node = following
            at = word.end()
            if node.ends:
                end = self._reach(low, at, node.ends[0], final)
                if end == OPEN:
                    opened = True
                elif end != NONE:
                    best = max(best, end)
            gap = _GAP.match(low, at)
            if gap is None:
                opened |= not final and at == size
                break
            at = gap.end()
            if not final and at == size:
                opened |= bool(node.next)
                break
        return OPEN if opened else best

    def _reach(self, low: bytes, at: int, act: str, final: bool) -> int:
        """The end of the first name within reach of the act that ended at `at`; or OPEN or NONE."""
        limit = at + REACH_CHARS
        size = len(low)
        previous = b""
        while True:
            gap = _GAP.match(low, at)
            if gap is None:
                return OPEN if not final and at == size else NONE
            if gap.end() > limit:
                return NONE
            if _STOP.search(gap[0]) and not (previous in _ABBREVIATIONS or (len(previous) == 1 and previous)):
                return NONE
            at = gap.end()
            if not final and at == size:
                return OPEN
            end = self._names.at(low, at, final)
            if end == OPEN:
                return OPEN
            if end != NONE:
                return self._behind(low, end, act, final)
            word = _WORD.match(low, at)
            if word is None:
                return NONE
            previous = word[0]
            if not final and word.end() == size:
                # It may still become a word that ends the walk, or one that goes on.
                return OPEN
            if (previous not in _TITLES) if self._claims else (previous in _DETACHED):
                return NONE
            at = word.end()

    def _behind(self, low: bytes, end: int, act: str, final: bool) -> int:
        if not final and len(low) - end < _AFTER_CHARS:
            return OPEN
        after = low[end : end + _AFTER_CHARS]
        if after[:1].isalnum() or _OTHER_THAN_NAME.match(after):
            return NONE
        if act == "as" and self._claims:
            return end if _FIRST_PERSON.match(after) else NONE
        if act == "this is":
            return end if _CLAUSE_END.match(after) else NONE
        return end


def _words(node: _Trie) -> str:
    """An expression for what follows a word of an act, up to the first place where an act ends."""
    if node.ends:
        return "(?![a-z0-9])"
    gap = _GAP.pattern.decode()
    return gap + "(?:" + "|".join(word.decode() + _words(following) for word, following in node.next.items()) + ")"


def _anchor(acts: _Trie, *, whole: bool) -> re.Pattern[bytes]:
    """Finds the border before a word that acts begin with; `whole`: only where such an act stands entire."""
    rest = {word: f"(?={_words(following)})" if whole else "(?![a-z0-9])" for word, following in acts.next.items()}
    return re.compile(
        ("[^a-z0-9](?:" + "|".join(word.decode() + behind for word, behind in rest.items()) + ")").encode()
    )


# Acts in Chinese: what opens one, how far the name may be, and what must follow the name (as an expression at its end).
@dataclass(frozen=True, slots=True)
class _HanAct:
    words: tuple[str, ...]
    reach: bool  # any words may stand between, else titles only
    behind: re.Pattern[str]


_NOT_OF: Final = re.compile(r"(?!的|粉丝|迷|本人不)")
_HAN_REQUESTS: Final = (
    _HanAct(
        (
            "冒充",
            "假扮",
            "扮演",
            "假装是",
            "假装你是",
            "假装自己是",
            "假装成",
            "假装为",
            "装作",
            "模仿",
            "充当",
            "化身为",
            "化身",
        ),
        True,
        _NOT_OF,
    ),
    _HanAct(("你是", "你现在是", "你就是", "你现在就是", "从现在起你是"), False, _NOT_OF),
    _HanAct(("以",), True, re.compile(r"[^。！？\n]{0,6}?的?(?:名义|口吻|身份|语气|第一人称|角色)")),
    _HanAct(("用",), True, re.compile(r"[^。！？\n]{0,6}?的?(?:名义|口吻|身份|语气)")),
    _HanAct(("代表", "代"), True, re.compile(r"[^。！？\n]{0,8}?(?:发表|发布|宣布|声明|致辞|讲话|表态|签署|道歉)")),
)
_HAN_CLAIMS: Final = (
    _HanAct(
        ("我是", "我就是", "我叫", "我的名字是", "我的名字叫", "本人是", "本人就是", "本人", "鄙人", "这里是"),
        False,
        _NOT_OF,
    ),
    _HanAct(("我，", "我,"), False, re.compile(r"[，,]")),
)
_HAN_TITLES: Final = (
    "美国",
    "中国",
    "俄罗斯",
    "俄国",
    "法国",
    "英国",
    "德国",
    "日本",
    "印度",
    "乌克兰",
    "前",
    "现任",
    "时任",
    "总统",
    "主席",
    "总理",
    "首相",
    "国务卿",
    "部长",
    "外长",
    "创始人",
    "首席执行官",
    "董事长",
    "总裁",
    "歌手",
    "演员",
    "明星",
    "导演",
    "著名",
    "企业家",
    "特斯拉",
    "苹果",
    "微软",
    "谷歌",
    "亚马逊",
    "英伟达",
    "CEO",
    "先生",
    "女士",
    "博士",
    "那个",
    "真正的",
    "的",
)
# Marks that may stand there too.
_HAN_MARKS: Final = frozenset('“”「『"：:，,、 ')
_HAN_SENTENCE_END: Final = frozenset("。！？!?；;\n")


class _HanActs:
    """A table of acts with what finds them."""

    def __init__(self, acts: Sequence[_HanAct], entity: str) -> None:
        self.entity = entity
        self.by_words = {word: act for act in acts for word in act.words}
        ordered = sorted(self.by_words, key=len, reverse=True)
        self.anchor = re.compile("|".join(map(re.escape, ordered)))
        self.starts = frozenset(word[:n] for word in ordered for n in range(1, len(word)))
        self.words_chars_max = max(map(len, ordered))
        self.firsts = frozenset(word[0] for word in ordered)


class HanScanner(Sleeper):
    """Acts and names in Chinese characters, on the text itself."""

    quiet = quiet_but(b"\x02")

    def __init__(self, acts: _HanActs, names: HanNames) -> None:
        self._acts = acts
        self._names = names
        self._at = 0
        self.foreign = acts.firsts

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(text)
        if view.find(b"\x02", self._at) < 0:
            # No act can stand in what has no Chinese character.
            self._at = size
            return found
        at = self._at
        while True:
            anchor = self._acts.anchor.search(text, at)
            last = size if final else self._tail(text, at)
            if anchor is None or anchor.start() >= last:
                self._at = last
                return found
            start = anchor.start()
            if not final and self._longer(text, start):
                self._at = start
                return found
            end = self._reach(text, anchor.end(), self._acts.by_words[anchor[0]], final)
            if end == OPEN:
                self._at = start
                return found
            if end != NONE:
                found.append(Finding(self._acts.entity, start, end, _SCORE))
            at = max(start + 1, end)

    def _tail(self, text: str, at: int) -> int:
        """Where the end of the text could be the beginning of an act."""
        size = len(text)
        for length in range(min(self._acts.words_chars_max - 1, size - at), 0, -1):
            if text[size - length :] in self._acts.starts:
                return size - length
        return size

    def _longer(self, text: str, start: int) -> bool:
        return text[start:] in self._acts.starts

    def _reach(self, text: str, at: int, act: _HanAct, final: bool) -> int:
        limit = at + HAN_REACH_CHARS
        size = len(text)
        while True:
            if not final and at == size:
                return OPEN
            end = self._names.at(text, at, final)
            if end == OPEN:
                return OPEN
            if end != NONE:
                if not final and size - end < _HAN_AFTER_CHARS and act.behind is not _NOT_OF:
                    return OPEN
                if not final and size - end < 3:
                    return OPEN
                return end if act.behind.match(text, end, min(size, end + _HAN_AFTER_CHARS)) else NONE
            if at >= size or at >= limit:
                return NONE
            if act.reach:
                if text[at] in _HAN_SENTENCE_END:
                    return NONE
                at += 1
                continue
            if text[at] in _HAN_MARKS:
                at += 1
                continue
            title = next((t for t in _HAN_TITLES if text.startswith(t, at)), None)
            if title is None:
                grows = not final and any(t.startswith(text[at:]) for t in _HAN_TITLES)
                return OPEN if grows else NONE
            at += len(title)


class _Impersonation:
    """What both detectors share: the names, and a version that covers names and tables."""

    claims = False

    def __init__(self) -> None:
        raw = resources.files("filters.detectors").joinpath(DATA).read_bytes()
        self._latin, self._han = figures.load(raw)
        self._latin_acts = _LatinActs(_CLAIM_ACTS if self.claims else _REQUEST_ACTS, claims=self.claims)
        self._han_acts = _HanActs(_HAN_CLAIMS if self.claims else _HAN_REQUESTS, CLAIM if self.claims else REQUEST)
        self.name = "impersonation-claims" if self.claims else "impersonation-requests"
        self.version = f"{CODE_VERSION}+{hashlib.sha256(raw).hexdigest()[:16]}"
        self.entities = frozenset({CLAIM if self.claims else REQUEST})

    def scanners(self) -> Sequence[Scanner]:
        """One for Latin, one for Chinese."""
        return (
            LatinScanner(self._latin_acts, self._latin),
            HanScanner(self._han_acts, self._han),
        )


class RequestDetector(_Impersonation):
    """Prompts that ask for a public figure's voice."""


class ClaimDetector(_Impersonation):
    """Answers that claim to be a public figure."""

    claims = True
