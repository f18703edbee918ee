"""The words of the simulated marketplace beside its nouns, in six languages, as people type them: in lower case.

A colour agrees with the noun beside it. In every list the first form is the preferred one, which a translation uses.
Portuguese is Brazilian.
"""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = ("en", "es", "fr", "pt", "de", "it")


BRANDS: Final = (
    "veltano", "morvik", "quorda", "brisqua", "tamreo", "zelvora", "kintaro", "norvalde", "pludora", "ostrevi",
    "fendrak", "lumvara", "caldrio", "trevonne", "sylvaro", "bexolin", "drumaro", "hyvetta", "jorvane", "kelmira",
    "mundreo", "opalisk", "pravello", "rovanti", "sundrel", "tolvera", "ubrenna", "wexhal", "yandrik", "zumarel",
)  # fmt: skip


# Adjectives: the forms in the order m, f, mp, fp; two forms where the genders share them, one for an invariable adjective.
# German: the stem, which is also the form after the noun; the endings are the strong ones. A '=' keeps it unchanged.
ADJECTIVES: Final[dict[str, dict[str, str]]] = {
    "red": {
        "en": "red", "es": "rojo roja rojos rojas", "fr": "rouge rouges",
        "pt": "vermelho vermelha vermelhos vermelhas", "de": "rot", "it": "rosso rossa rossi rosse",
    },
    "blue": {
        "en": "blue", "es": "azul azules", "fr": "bleu bleue bleus bleues",
        "pt": "azul azuis", "de": "blau", "it": "blu",
    },
    "black": {
        "en": "black", "es": "negro negra negros negras", "fr": "noir noire noirs noires",
        "pt": "preto preta pretos pretas", "de": "schwarz", "it": "nero nera neri nere",
    },
    "white": {
        "en": "white", "es": "blanco blanca blancos blancas", "fr": "blanc blanche blancs blanches",
        "pt": "branco branca brancos brancas", "de": "weiß", "it": "bianco bianca bianchi bianche",
    },
    "green": {
        "en": "green", "es": "verde verdes", "fr": "vert verte verts vertes",
        "pt": "verde verdes", "de": "grün", "it": "verde verdi",
    },
    "yellow": {
        "en": "yellow", "es": "amarillo amarilla amarillos amarillas", "fr": "jaune jaunes",
        "pt": "amarelo amarela amarelos amarelas", "de": "gelb", "it": "giallo gialla gialli gialle",
    },
    "grey": {
        "en": "grey", "es": "gris grises", "fr": "gris grise gris grises",
        "pt": "cinza", "de": "grau", "it": "grigio grigia grigi grigie",
    },
    "brown": {
        "en": "brown", "es": "marrón marrones", "fr": "marron",
        "pt": "marrom marrons", "de": "braun", "it": "marrone marroni",
    },
    "pink": {
        "en": "pink", "es": "rosa", "fr": "rose roses",
        "pt": "rosa", "de": "rosa=", "it": "rosa",
    },
    "purple": {
        "en": "purple", "es": "morado morada morados moradas", "fr": "violet violette violets violettes",
        "pt": "roxo roxa roxos roxas", "de": "lila=", "it": "viola",
    },
    "cheap": {
        "en": "cheap", "es": "barato barata baratos baratas", "fr": "pas cher|pas chère|pas chers|pas chères",
        "pt": "barato barata baratos baratas", "de": "günstig", "it": "economico economica economici economiche",
    },
}  # fmt: skip

COLOURS: Final = tuple(name for name in ADJECTIVES if name != "cheap")

# A material follows the preposition of its language (de algodón, en coton, aus baumwolle, in cotone); English has none.
MATERIALS: Final[dict[str, dict[str, str]]] = {
    "cotton": {"en": "cotton", "es": "algodón", "fr": "coton", "pt": "algodão", "de": "baumwolle", "it": "cotone"},
    "wool": {"en": "wool", "es": "lana", "fr": "laine", "pt": "lã", "de": "wolle", "it": "lana"},
    "linen": {"en": "linen", "es": "lino", "fr": "lin", "pt": "linho", "de": "leinen", "it": "lino"},
    "silk": {"en": "silk", "es": "seda", "fr": "soie", "pt": "seda", "de": "seide", "it": "seta"},
    "leather": {"en": "leather", "es": "cuero", "fr": "cuir", "pt": "couro", "de": "leder", "it": "pelle|cuoio"},
    "velvet": {"en": "velvet", "es": "terciopelo", "fr": "velours", "pt": "veludo", "de": "samt", "it": "velluto"},
    "canvas": {"en": "canvas", "es": "lona", "fr": "toile", "pt": "lona", "de": "segeltuch", "it": "tela"},
    "polyester": {
        "en": "polyester", "es": "poliéster", "fr": "polyester", "pt": "poliéster", "de": "polyester",
        "it": "poliestere",
    },
    "nylon": {"en": "nylon", "es": "nailon|nylon", "fr": "nylon", "pt": "náilon|nylon", "de": "nylon", "it": "nylon"},
    "rubber": {
        "en": "rubber", "es": "goma|caucho", "fr": "caoutchouc", "pt": "borracha", "de": "gummi", "it": "gomma",
    },
    "cork": {"en": "cork", "es": "corcho", "fr": "liège", "pt": "cortiça", "de": "kork", "it": "sughero"},
    "wood": {"en": "wood|wooden", "es": "madera", "fr": "bois", "pt": "madeira", "de": "holz", "it": "legno"},
    "metal": {"en": "metal", "es": "metal", "fr": "métal", "pt": "metal", "de": "metall", "it": "metallo"},
    "plastic": {
        "en": "plastic", "es": "plástico", "fr": "plastique", "pt": "plástico", "de": "kunststoff|plastik",
        "it": "plastica",
    },
    "glass": {"en": "glass", "es": "vidrio|cristal", "fr": "verre", "pt": "vidro", "de": "glas", "it": "vetro"},
    "steel": {
        "en": "stainless steel|steel", "es": "acero inoxidable|acero", "fr": "acier inoxydable|inox|acier",
        "pt": "aço inoxidável|aço inox|aço", "de": "edelstahl|stahl", "it": "acciaio inossidabile|acciaio inox|acciaio",
    },
    "aluminium": {
        "en": "aluminium|aluminum", "es": "aluminio", "fr": "aluminium", "pt": "alumínio", "de": "aluminium",
        "it": "alluminio",
    },
    "ceramic": {
        "en": "ceramic", "es": "cerámica", "fr": "céramique", "pt": "cerâmica", "de": "keramik", "it": "ceramica",
    },
    "cardboard": {
        "en": "cardboard", "es": "cartón", "fr": "carton", "pt": "papelão", "de": "pappe|karton", "it": "cartone",
    },
}  # fmt: skip

MATERIAL_PREPOSITION: Final = {"es": "de", "fr": "en", "pt": "de", "de": "aus", "it": "in"}

# Whole phrases that follow the noun, since the preposition is the language's own (it: da donna, but per bambini).
# The last word of each is the audience's name.
AUDIENCES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "women": {
        "en": ("for women", "women", "for ladies"),
        "es": ("para mujer", "mujer", "para mujeres"),
        "fr": ("pour femme", "femme", "pour femmes"),
        "pt": ("para mulher", "mulher", "para mulheres"),
        "de": ("für damen", "damen", "für frauen"),
        "it": ("da donna", "donna", "per donna"),
    },
    "men": {
        "en": ("for men", "men", "for gentlemen"),
        "es": ("para hombre", "hombre", "para hombres"),
        "fr": ("pour homme", "homme", "pour hommes"),
        "pt": ("para homem", "homem", "para homens"),
        "de": ("für herren", "herren", "für männer"),
        "it": ("da uomo", "uomo", "per uomo"),
    },
    "kids": {
        "en": ("for kids", "kids", "for children"),
        "es": ("para niños", "niños", "para niño"),
        "fr": ("pour enfant", "enfant", "pour enfants"),
        "pt": ("para criança", "criança", "para crianças"),
        "de": ("für kinder", "kinder"),
        "it": ("per bambini", "bambini", "da bambino"),
    },
    "baby": {
        "en": ("for baby", "baby", "for babies"),
        "es": ("para bebé", "bebé", "para bebés"),
        "fr": ("pour bébé", "bébé", "pour bébés"),
        "pt": ("para bebê", "bebê", "para bebês"),
        "de": ("für baby", "baby", "für babys"),
        "it": ("per neonato", "neonato", "per neonati"),
    },
}

# English alone also puts the audience in front of the noun.
ENGLISH_POSSESSIVES: Final = {"women": "women's", "men": "men's", "kids": "children's", "baby": "baby's"}

# A unit that follows its number. English: the form after the noun (1000 pieces), then the one before it (1000 piece).
UNITS: Final[dict[str, dict[str, str]]] = {
    "inch": {"en": "inches|inch", "es": "pulgadas", "fr": "pouces", "pt": "polegadas", "de": "zoll", "it": "pollici"},
    "pieces": {"en": "pieces|piece", "es": "piezas", "fr": "pièces", "pt": "peças", "de": "teile", "it": "pezzi"},
    "people": {"en": "people|person", "es": "personas", "fr": "personnes", "pt": "pessoas", "de": "personen",
               "it": "persone"},
    **{unit: dict.fromkeys(LANGUAGES, unit) for unit in ("ml", "l", "kg", "w", "cm", "mm")},
}  # fmt: skip

# The word before the number of a size: of clothes, then of shoes.
SIZE_WORDS: Final = {
    "en": ("size", "size"), "es": ("talla", "talla"), "fr": ("taille", "pointure"),
    "pt": ("tamanho", "tamanho"), "de": ("größe", "größe"), "it": ("taglia", "numero"),
}  # fmt: skip
SIZE_UNITS: Final = ("size", "shoe size")

# Words around the need itself. `sale` ends a query; the others stand in phrases above or help a translation.
FILLERS: Final[dict[str, dict[str, str]]] = {
    "for": {"en": "for", "es": "para", "fr": "pour", "pt": "para", "de": "für", "it": "per|da"},
    "of": {"en": "of", "es": "de", "fr": "en", "pt": "de", "de": "aus", "it": "in"},
    "with": {"en": "with", "es": "con", "fr": "avec", "pt": "com", "de": "mit", "it": "con"},
    "without": {"en": "without", "es": "sin", "fr": "sans", "pt": "sem", "de": "ohne", "it": "senza"},
    "and": {"en": "and", "es": "y", "fr": "et", "pt": "e", "de": "und", "it": "e"},
    "sale": {"en": "sale", "es": "oferta", "fr": "promo", "pt": "promoção", "de": "angebot", "it": "offerta"},
}

_ROMANCE_SLOTS: Final = {"m": 0, "f": 1, "mp": 2, "fp": 3}
_GERMAN_ENDINGS: Final = {"m": "er", "f": "e", "n": "es", "p": "e"}


def _romance_forms(listed: str) -> tuple[str, ...]:
    """Returns the four forms m, f, mp, fp of an adjective listed with one, two or four."""
    forms = tuple(listed.split("|") if "|" in listed else listed.split())
    return {1: forms * 4, 2: (forms[0], forms[0], forms[-1], forms[-1])}.get(len(forms), forms)


def adjective(name: str, language: str, agreement: str) -> str:
    """Returns the form of a colour or of `cheap` that stands right beside a noun with that agreement.

    German: the strong form, as before a noun; English never changes.

    >>> adjective("white", "fr", "fp")
    'blanches'
    """
    listed = ADJECTIVES[name][language]
    if language == "en" or listed.endswith("="):
        return listed.rstrip("=")
    if language == "de":
        return listed + _GERMAN_ENDINGS[agreement]
    return _romance_forms(listed)[_ROMANCE_SLOTS[agreement]]


def adjective_forms(name: str, language: str) -> tuple[str, ...]:
    """Returns every distinct form of a colour or of `cheap`, the preferred one first (German: the bare stem)."""
    if language == "de":
        stem = ADJECTIVES[name]["de"].rstrip("=")
        return tuple(dict.fromkeys((stem, *(adjective(name, "de", tag) for tag in _GERMAN_ENDINGS))))
    if language == "en":
        return (ADJECTIVES[name]["en"], *(("gray",) if name == "grey" else ()))
    return tuple(dict.fromkeys(_romance_forms(ADJECTIVES[name][language])))


def size_word(unit: str, language: str) -> str:
    """Returns the word before the number of a size of clothes or shoes."""
    return SIZE_WORDS[language][SIZE_UNITS.index(unit)]
