"""Whether a message orders a workflow to be run now: one published rule, the same for every model.

The agent executes nothing unless the newest message of the user asks for it. Models follow such an
instruction most of the time; this rule holds it always. When in doubt it says no: the agent then
shows the workflow and asks, and "run it" settles it.

1. Code blocks, inline code, quotations and list items are what a workflow holds, never orders.
2. A refusal anywhere ("do not run", "plan only", "dry run", "not yet") decides: no.
3. An order is a run word ("run", "execute", "start it" ...) in its imperative place: at the start
   of a clause, after "and" or "then", after "please", "can you", "I want you to" and their like.
   "The last run", "how do I run it", "a script to run" are none.
4. Once the message spoke of a workflow, or the clause of a purpose ("create a workflow to build the
   image and run the tests"), only "it", "this", "the workflow" or nothing may follow the run word.
5. A bare yes ("yes", "go ahead", "do it") counts if the assistant's last paragraph was a question
   that has a run word in it.

6. A message of over 100,000 characters, code blocks aside, orders nothing.

English, German, French, Spanish, Portuguese, Italian and Chinese are known.
"""

import re
import unicodedata

from providers.code_blocks import prose_of

MAX_CHARACTERS = 100_000

_INLINE_CODE = re.compile(r"`[^`\n]+`")
_QUOTATION = re.compile(r"[\"“«„][^\"“”«»„\n]{1,200}[\"”»“]")
_LIST_ITEM = re.compile(r"(?m)^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+.*$")
_ADDRESS = re.compile(r"\b[A-Za-z][\w+.-]{0,15}://\S+|(?<!\w)[.~]?/\S+")
_SLASHED = re.compile(
    r"\b(create|write|build|make|compile|plan|generate|validate) ?/ ?(?=(?:run|execute)\b)"
)
_CLAUSE_END = re.compile(r"[.:](?=\s|$)|[!?;,。、()\n]|\s[-\u2013\u2014]\s")
_WORD = re.compile(r"\w+(?:[-'./]\w+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that are the order itself.
_RUN = _words(
    "run execute rerun re-run perform führe führ exécute exécutez exécute-le exécute-la "
    "exécutez-le exécutez-la lance-le lance-la lancez-le lancez-la ejecuta ejecute ejecútalo "
    "ejecutalo ejecútala ejecutala ejecútelo córrelo lánzalo executa execute-o rode roda rode-o "
    "esegui esegua eseguilo eseguila avvialo avviala lancialo"
)
# Words that order only with a workflow, or a pronoun for it, after them.
_START = _words("start launch trigger begin kick starte lance lancez avvia corre lancia")
# Infinitives, which order only where somebody is asked or a wish is said.
_INFINITIVES = _words(
    "ausführen starten exécuter lancer ejecutar ejecutarlo correr executar rodar eseguire "
    "eseguirlo avviare"
)
_ASKED = _words(
    "kannst könntest würdest bitte peux pouvez pourriez pourrais veux voudrais puedes podrías "
    "puede quiero quisiera pode poderia quero puoi potresti vorrei voglio"
)
_ORDER_WORDS = _RUN | _START | _INFINITIVES
# How many words before an order word are looked at.
_LOOK_BACK = 60
_ADVERBS = _words(
    "also now please pls kindly just immediately directly actually simply yes yeah yep ok okay "
    "sure great good perfect fine right alright so go jetzt bitte ja nun sofort gleich maintenant "
    "oui ensuite ahora sí si después entonces agora sim então adesso ora sì subito"
)
_CONJUNCTIONS = _words("and then plus und dann et puis y luego e depois poi")
_LEAD = re.compile(
    r"(?:(?:can|could|would|will) you|you (?:can|may|should)|let us|let's|lets|go ahead|"
    r"(?:i|we)(?:'d| would)? (?:want|need|like|love|ask) you to|"
    r"(?:i|we)(?:'d| would)? (?:want|like|love) to|wanna|"
    r"s'il (?:te|vous) plaît|por favor|per favore)"
)
_QUESTION_WORDS = _words(
    "how what why when where which who whose wie was warum wann wo welche wer comment pourquoi "
    "quand où quel quelle cómo como qué cuándo dónde quando onde qual come perché dove"
)
_PURPOSE = _words("to that which for who if when um zu pour qui para que per che")
_WORKFLOW = _words(
    "workflow workflows pipeline pipelines flow flows job jobs template script scripts plan "
    "ablauf arbeitsablauf flux flujo fluxo flusso"
)
_PRONOUNS = _words(
    "it this that them these those everything all now again once immediately please here es das "
    "ihn sie alles le la ça cela tout maintenant lo esto eso todo ahora o isso isto agora questo "
    "quello tutto adesso ora"
)
_ARTICLES = _words(
    "the this that my our your den die das diesen le la ce cette el la este o a os il lo"
)
_NOUN_AFTER_RUN = _words("id ids time times history status log logs event events book")

_NEGATION = re.compile(
    # English, before the verb
    r"\b(?:do not|does not|don't|dont|never|without|avoid|no need to|instead of|rather than|"
    r"cannot|can't|before|hold off)\s+(?:\w+\s+){0,2}?(?:re-?)?(?:run|running|execut(?:e|ing))\b"
    r"|\bnot (?:to |be )?(?:run|executed?)\b|\bnot yet\b|\bno (?:execution|run)\b|\bdry[ -]?run\b"
    r"|\b(?:do not|don't|dont|never)\s+(?:\w+\s+)?(?:start|launch|trigger)\s+"
    r"(?:it|this|anything|the workflow)\b"
    # "plan only", "just show me"; but "just create and run it" is an order
    r"|\b(?:plan|draft|show|validate|create|write|compile|design|preview) only\b"
    r"|\b(?:only|just) (?:plan|draft|show|validate|create|write|compile|design|preview|generate)\b"
    r"(?!.{0,80}\b(?:and|then) (?:run|execute)\b)"
    # German, French; Spanish, Portuguese, Italian; Chinese
    r"|\b(?:nicht|ohne|kein\w*)\b[^.!?\n]{0,40}\b(?:aus(?:zu)?führ\w*|start\w*)\b"
    r"|\b(?:führ|starte)\w*\b[^.!?\n]{0,40}\bnicht\b"
    r"|\b(?:ne |n'|sans )[^.!?\n]{0,20}\b(?:ex[ée]cut\w*|lanc\w*)"
    r"|\b(?:no|sin|não|nao|sem|non|senza)\s+(?:\w+\s+){0,2}?(?:ejecut\w*|ejecút\w*|corr[ae]\w*|"
    r"execut\w*|rod[ae]\w*|esegu\w*|avvi\w*|lanci\w*)"
    r"|(?:不要|别|無需|无需|先不|不必|不用|不)\s*(?:运行|執行|执行|運行)"
)
_CHINESE_ORDER = re.compile(
    r"(?:^|并|並|然后|然後|请|請|就|立即|现在|現在|再)(?:帮我)?(?:运行|執行|执行|運行)"
)
_YES = re.compile(
    r"(?:yes|yeah|yep|yup|sure|ok|okay|please do|go|go ahead|go for it|do it|do that|proceed|"
    r"continue|confirm|confirmed|approved|ja|gerne|mach das|los|oui|d'accord|vas-y|allez-y|sí|si|"
    r"claro|adelante|hazlo|sim|faça isso|sì|va bene|procedi|fallo|是|是的|好|好的|可以)"
)
_COURTESY = re.compile(r"\b(?:please|thanks|thank you|bitte|danke|merci|gracias|grazie)\b")
_RUN_WORD = re.compile(
    r"\b(?:run|execut\w*|start|ausführ\w*|starten|ex[ée]cut\w*|lancer|ejecut\w*|esegu\w*|avvi\w*)"
    r"\b|运行|执行"
)


def asks_to_run(message: str, assistant_before: str = "") -> bool:
    """Whether `message`, the newest of the user, orders a workflow to be run now.

    `assistant_before` is what the assistant said last; it matters for a bare yes alone.
    """
    prose = prose_of(message)
    if len(prose) > MAX_CHARACTERS:
        return False
    text = _spoken(prose)
    if _NEGATION.search(text):
        return False
    clauses = [clause.strip() for clause in _CLAUSE_END.split(text)]
    return _orders(clauses) or (_is_bare_yes(clauses) and _offers_to_run(assistant_before))


def _spoken(prose: str) -> str:
    """The words of a message that may be an order, in lower case."""
    # NFKC turns the full-width punctuation of Chinese into ASCII.
    text = unicodedata.normalize("NFKC", prose).replace("\u2019", "'")
    text = _LIST_ITEM.sub("", text)
    text = _INLINE_CODE.sub(" CODE ", text)
    text = _QUOTATION.sub(" QUOTED ", text)
    text = _ADDRESS.sub(" ADDRESS ", text).replace("&", " and ")
    return _SLASHED.sub(r"\1 and ", text.lower())


def _orders(clauses: list[str]) -> bool:
    spoke_of_workflow = False
    for clause in clauses:
        if _CHINESE_ORDER.search(clause):
            return True
        words = _WORD.findall(clause)
        if words and words[0] in _QUESTION_WORDS:
            continue
        for place, word in enumerate(words):
            if word in _WORKFLOW:
                spoke_of_workflow = True
            elif word in _ORDER_WORDS and _is_order(words, place, spoke_of_workflow):
                return True
    return False


def _is_order(words: list[str], place: int, spoke_of_workflow: bool) -> bool:
    word, before = words[place], words[max(0, place - _LOOK_BACK) : place]
    after = words[place + 1 : place + 6]
    if word in _INFINITIVES:
        return not _ASKED.isdisjoint(before)
    if after and after[0] in _NOUN_AFTER_RUN:
        return False
    while before and before[-1] in _ADVERBS:
        before = before[:-1]
    begins = not before or _LEAD.fullmatch(" ".join(_without_openers(before))) is not None
    if not begins and before[-1] not in _CONJUNCTIONS:
        return False
    if word in _START:
        return bool(after) and _means_workflow(after)
    has_purpose = not begins and not _PURPOSE.isdisjoint(before)
    return not (spoke_of_workflow or has_purpose) or _means_workflow(after)


def _without_openers(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) and (words[start] in _ADVERBS or words[start] in _CONJUNCTIONS):
        start += 1
    # "go ahead" opens a clause itself, though "go" alone is an adverb.
    return words[start - 1 :] if words[start - 1 : start + 1] == ["go", "ahead"] else words[start:]


def _means_workflow(words: list[str]) -> bool:
    """Whether nothing, a pronoun, or the workflow by name follows the run word."""
    rest = words[1:] if words[:1] == ["off"] else words
    if not rest or rest[0] in _PRONOUNS or rest[0] in _WORKFLOW:
        return True
    return rest[0] in _ARTICLES and not _WORKFLOW.isdisjoint(rest[1:4])


def _is_bare_yes(clauses: list[str]) -> bool:
    said = [_COURTESY.sub(" ", clause).strip() for clause in clauses]
    said = [clause for clause in said if clause]
    return bool(said) and all(_YES.fullmatch(clause) for clause in said)


def _offers_to_run(assistant_before: str) -> bool:
    paragraphs = [part for part in assistant_before.strip().split("\n\n") if part.strip()]
    last = paragraphs[-1].lower() if paragraphs else ""
    return "?" in unicodedata.normalize("NFKC", last) and _RUN_WORD.search(last) is not None
