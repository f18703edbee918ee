"""The leaf categories of the simulated marketplace and their nouns, in six languages, as people type them: in lower case.

A noun carries its gender and number, so that the colour beside it can agree: `m f mp fp` in Spanish, French,
Portuguese and Italian, `m f n p` (p: plural, any gender) in German, nothing or `p` in English. Portuguese is Brazilian.
In every list the first form is the preferred one, which a translation uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relevance_core.tools.simulator.lexicon import COLOURS


@dataclass(frozen=True)
class Noun:
    """A noun as people type it, and the agreement that it requires of an adjective ('' for an English singular)."""

    text: str
    agreement: str

    @property
    def plural(self) -> bool:
        """True for a plural; a form that serves as both counts as a singular."""
        return self.agreement.endswith("p")


@dataclass(frozen=True)
class Leaf:
    """A leaf category: its path, the attributes its items can state, and its nouns per language.

    sizes: the numbers of `unit` that its items come in; both are empty where items have no size.
    """

    path: tuple[str, str, str]
    nouns: dict[str, tuple[Noun, ...]]
    colours: tuple[str, ...]
    materials: tuple[str, ...]
    audiences: tuple[str, ...]
    unit: str
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The last level of the path, which names the leaf."""
        return self.path[2]


_ALL = COLOURS
_WOMEN = ("women", "kids", "baby")
_PEOPLE = ("women", "men", "kids", "baby")
_NO_BABY = ("women", "men", "kids")
_CLOTHES = ("size", (36, 38, 40, 42))
_SHOES = ("shoe size", (37, 39, 41, 43))
_UNSIZED: tuple[str, tuple[int, ...]] = ("", ())


def _nouns(**by_language: str) -> dict[str, tuple[Noun, ...]]:
    """Parses `vestido:m, vestidos:mp` into nouns, per language."""
    return {
        language: tuple(Noun(text, tag) for text, _, tag in (one.partition(":") for one in listed.split(", ")))
        for language, listed in by_language.items()
    }


def _leaf(
    path: str,
    colours: tuple[str, ...],
    materials: str,
    audiences: tuple[str, ...],
    size: tuple[str, tuple[int, ...]],
    **nouns: str,
) -> Leaf:
    department, group, name = path.split(",")
    unit, sizes = size
    return Leaf((department, group, name), _nouns(**nouns), colours, tuple(materials.split()), audiences, unit, sizes)


LEAVES: Final[tuple[Leaf, ...]] = (
    _leaf(
        "fashion,women's clothing,dresses", _ALL, "cotton linen silk polyester", _WOMEN, _CLOTHES,
        en="dress, dresses:p, gown",
        es="vestido:m, vestidos:mp",
        fr="robe:f, robes:fp",
        pt="vestido:m, vestidos:mp",
        de="kleid:n, kleider:p",
        it="vestito:m, vestiti:mp, abito:m",
    ),
    _leaf(
        "fashion,women's clothing,skirts", _ALL, "cotton wool leather linen", _WOMEN, _CLOTHES,
        en="skirt, skirts:p",
        es="falda:f, faldas:fp, pollera:f",
        fr="jupe:f, jupes:fp",
        pt="saia:f, saias:fp",
        de="rock:m, röcke:p",
        it="gonna:f, gonne:fp",
    ),
    _leaf(
        "fashion,women's clothing,blouses", _ALL, "cotton silk linen polyester", _WOMEN, _CLOTHES,
        en="blouse, blouses:p",
        es="blusa:f, blusas:fp",
        fr="blouse:f, blouses:fp, chemisier:m",
        pt="blusa:f, blusas:fp",
        de="bluse:f, blusen:p",
        it="camicetta:f, camicette:fp, blusa:f",
    ),
    _leaf(
        "fashion,outerwear,coats", _ALL, "wool leather cotton", _PEOPLE, _CLOTHES,
        en="coat, coats:p, overcoat",
        es="abrigo:m, abrigos:mp",
        fr="manteau:m, manteaux:mp",
        pt="casaco:m, casacos:mp, sobretudo:m",
        de="mantel:m, mäntel:p",
        it="cappotto:m, cappotti:mp",
    ),
    _leaf(
        "fashion,outerwear,jackets", _ALL, "leather nylon wool cotton", _PEOPLE, _CLOTHES,
        en="jacket, jackets:p",
        es="chaqueta:f, chaquetas:fp, cazadora:f",
        fr="veste:f, vestes:fp, blouson:m",
        pt="jaqueta:f, jaquetas:fp",
        de="jacke:f, jacken:p",
        it="giacca:f, giacche:fp, giubbotto:m",
    ),
    _leaf(
        "shoes and bags,shoes,sneakers", _ALL, "leather canvas", _PEOPLE, _SHOES,
        en="sneakers:p, trainers:p, running shoes:p",
        es="zapatillas:fp, zapatillas deportivas:fp, tenis:mp",
        fr="baskets:fp, chaussures de sport:fp",
        pt="tênis:m, tênis de corrida:m",
        de="turnschuhe:p, sportschuhe:p, sneaker:p",
        it="scarpe da ginnastica:fp, sneakers:fp",
    ),
    _leaf(
        "shoes and bags,shoes,boots", _ALL, "leather rubber", _PEOPLE, _SHOES,
        en="boots:p, ankle boots:p",
        es="botas:fp, botines:mp",
        fr="bottes:fp, bottines:fp",
        pt="botas:fp, bota:f",
        de="stiefel:p, stiefeletten:p",
        it="stivali:mp, stivaletti:mp",
    ),
    _leaf(
        "shoes and bags,shoes,sandals", _ALL, "leather rubber cork", _PEOPLE, _SHOES,
        en="sandals:p, sandal",
        es="sandalias:fp, sandalia:f",
        fr="sandales:fp, sandale:f",
        pt="sandálias:fp, sandália:f",
        de="sandalen:p, sandale:f",
        it="sandali:mp, sandalo:m",
    ),
    _leaf(
        "shoes and bags,bags,backpacks", _ALL, "nylon canvas leather", _NO_BABY, ("l", (15, 20, 30, 40)),
        en="backpack, backpacks:p, rucksack",
        es="mochila:f, mochilas:fp",
        fr="sac à dos:m, sacs à dos:mp",
        pt="mochila:f, mochilas:fp",
        de="rucksack:m, rucksäcke:p",
        it="zaino:m, zaini:mp",
    ),
    _leaf(
        "shoes and bags,bags,handbags", _ALL, "leather canvas velvet", ("women", "kids"), _UNSIZED,
        en="handbag, handbags:p, purse",
        es="bolso:m, bolsos:mp, bolso de mano:m",
        fr="sac à main:m, sacs à main:mp",
        pt="bolsa:f, bolsas:fp",
        de="handtasche:f, handtaschen:p",
        it="borsa:f, borse:fp, borsetta:f",
    ),
    _leaf(
        "electronics,computers,laptops", ("black", "white", "grey", "blue", "pink"), "aluminium plastic", (),
        ("inch", (13, 14, 15, 17)),
        en="laptop, laptops:p, notebook",
        es="portátil:m, portátiles:mp, ordenador portátil:m",
        fr="ordinateur portable:m, ordinateurs portables:mp, pc portable:m",
        pt="notebook:m, notebooks:mp, laptop:m",
        de="laptop:m, laptops:p, notebook:n",
        it="computer portatile:m, portatile:m, notebook:m",
    ),
    _leaf(
        "electronics,computers,monitors", ("black", "white", "grey"), "", (), ("inch", (22, 24, 27, 32)),
        en="monitor, monitors:p, computer screen",
        es="monitor:m, monitores:mp, pantalla:f",
        fr="écran:m, écrans:mp, moniteur:m",
        pt="monitor:m, monitores:mp",
        de="monitor:m, monitore:p, bildschirm:m",
        it="monitor:m, schermo:m, schermi:mp",
    ),
    _leaf(
        "electronics,computers,keyboards", ("black", "white", "grey", "pink", "blue"), "aluminium plastic", (),
        _UNSIZED,
        en="keyboard, keyboards:p",
        es="teclado:m, teclados:mp",
        fr="clavier:m, claviers:mp",
        pt="teclado:m, teclados:mp",
        de="tastatur:f, tastaturen:p",
        it="tastiera:f, tastiere:fp",
    ),
    _leaf(
        "electronics,audio,headphones", _ALL, "", _NO_BABY, _UNSIZED,
        en="headphones:p, earphones:p, headset",
        es="auriculares:mp, audífonos:mp",
        fr="casque audio:m, écouteurs:mp",
        pt="fones de ouvido:mp, fone de ouvido:m",
        de="kopfhörer:m, ohrhörer:m",
        it="cuffie:fp, auricolari:mp",
    ),
    _leaf(
        "electronics,audio,speakers", ("black", "white", "red", "blue", "grey"), "wood plastic metal", (),
        ("w", (10, 20, 40, 60)),
        en="speaker, speakers:p, loudspeaker",
        es="altavoz:m, altavoces:mp, parlante:m",
        fr="enceinte:f, enceintes:fp, haut-parleur:m",
        pt="caixa de som:f, caixas de som:fp, alto-falante:m",
        de="lautsprecher:m, lautsprecherbox:f",
        it="altoparlante:m, altoparlanti:mp, cassa acustica:f",
    ),
    _leaf(
        "home,kitchen,frying pans", ("black", "red", "grey", "green", "blue"), "steel aluminium ceramic", (),
        ("cm", (20, 24, 28, 32)),
        en="frying pan, frying pans:p, skillet",
        es="sartén:f, sartenes:fp",
        fr="poêle:f, poêles:fp",
        pt="frigideira:f, frigideiras:fp",
        de="bratpfanne:f, bratpfannen:p, pfanne:f",
        it="padella:f, padelle:fp",
    ),
    _leaf(
        "home,kitchen,knives", ("black", "white", "red", "brown"), "steel ceramic", (), ("cm", (10, 15, 20)),
        en="knife, knives:p, kitchen knife",
        es="cuchillo:m, cuchillos:mp, cuchillo de cocina:m",
        fr="couteau:m, couteaux:mp, couteau de cuisine:m",
        pt="faca:f, facas:fp, faca de cozinha:f",
        de="messer:n, küchenmesser:n",
        it="coltello:m, coltelli:mp, coltello da cucina:m",
    ),
    _leaf(
        "home,kitchen,kettles", _ALL, "steel glass plastic", (), ("l", (1, 2, 3)),
        en="kettle, kettles:p, tea kettle",
        es="hervidor:m, hervidores:mp, hervidor de agua:m",
        fr="bouilloire:f, bouilloires:fp",
        pt="chaleira:f, chaleiras:fp",
        de="wasserkocher:m, wasserkessel:m",
        it="bollitore:m, bollitori:mp",
    ),
    _leaf(
        "home,furniture,chairs", _ALL, "wood metal plastic velvet", ("kids",), _UNSIZED,
        en="chair, chairs:p",
        es="silla:f, sillas:fp",
        fr="chaise:f, chaises:fp",
        pt="cadeira:f, cadeiras:fp",
        de="stuhl:m, stühle:p",
        it="sedia:f, sedie:fp",
    ),
    _leaf(
        "home,furniture,tables", ("black", "white", "brown", "grey"), "wood glass metal", ("kids",),
        ("cm", (80, 120, 160, 200)),
        en="table, tables:p, dining table",
        es="mesa:f, mesas:fp, mesa de comedor:f",
        fr="table:f, tables:fp, table à manger:f",
        pt="mesa:f, mesas:fp, mesa de jantar:f",
        de="tisch:m, tische:p, esstisch:m",
        it="tavolo:m, tavoli:mp, tavolo da pranzo:m",
    ),
    _leaf(
        "garden,garden tools,rakes", ("green", "black", "red", "yellow"), "wood metal plastic", ("kids",), _UNSIZED,
        en="rake, rakes:p",
        es="rastrillo:m, rastrillos:mp",
        fr="râteau:m, râteaux:mp",
        pt="ancinho:m, ancinhos:mp, rastelo:m",
        de="rechen:m, harke:f, harken:p",
        it="rastrello:m, rastrelli:mp",
    ),
    _leaf(
        "garden,garden tools,shovels", ("green", "black", "red", "yellow"), "steel wood plastic", ("kids",), _UNSIZED,
        en="shovel, shovels:p, spade",
        es="pala:f, palas:fp",
        fr="pelle:f, pelles:fp, bêche:f",
        pt="pá:f, pás:fp",
        de="schaufel:f, schaufeln:p, spaten:m",
        it="pala:f, pale:fp, badile:m",
    ),
    _leaf(
        "garden,garden tools,watering cans", _ALL, "metal plastic", ("kids",), ("l", (2, 5, 10)),
        en="watering can, watering cans:p",
        es="regadera:f, regaderas:fp",
        fr="arrosoir:m, arrosoirs:mp",
        pt="regador:m, regadores:mp",
        de="gießkanne:f, gießkannen:p",
        it="annaffiatoio:m, annaffiatoi:mp",
    ),
    _leaf(
        "garden,outdoor living,hammocks", _ALL, "cotton nylon polyester", ("kids", "baby"), _UNSIZED,
        en="hammock, hammocks:p",
        es="hamaca:f, hamacas:fp",
        fr="hamac:m, hamacs:mp",
        pt="rede de descanso:f, redes de descanso:fp",
        de="hängematte:f, hängematten:p",
        it="amaca:f, amache:fp",
    ),
    _leaf(
        "garden,outdoor living,parasols", _ALL, "wood aluminium polyester", (), ("cm", (200, 250, 300)),
        en="parasol, parasols:p, garden umbrella",
        es="sombrilla:f, sombrillas:fp, parasol:m",
        fr="parasol:m, parasols:mp",
        pt="guarda-sol:m, guarda-sóis:mp, ombrelone:m",
        de="sonnenschirm:m, sonnenschirme:p",
        it="ombrellone:m, ombrelloni:mp",
    ),
    _leaf(
        "sports,fitness,dumbbells", ("black", "grey", "blue", "pink", "purple"), "rubber metal", ("women", "men"),
        ("kg", (2, 5, 10, 15)),
        en="dumbbell, dumbbells:p",
        es="mancuerna:f, mancuernas:fp",
        fr="haltère:m, haltères:mp",
        pt="halter:m, halteres:mp",
        de="hantel:f, hanteln:p, kurzhantel:f",
        it="manubrio:m, manubri:mp",
    ),
    _leaf(
        "sports,fitness,yoga mats", _ALL, "rubber cork cotton", _NO_BABY, ("mm", (5, 8, 10)),
        en="yoga mat, yoga mats:p, exercise mat",
        es="esterilla de yoga:f, esterillas de yoga:fp",
        fr="tapis de yoga:m, tapis de gymnastique:m",
        pt="tapete de yoga:m, tapetes de yoga:mp",
        de="yogamatte:f, yogamatten:p, gymnastikmatte:f",
        it="tappetino da yoga:m, tappetini da yoga:mp",
    ),
    _leaf(
        "sports,camping,tents", ("green", "blue", "yellow", "grey", "red"), "nylon cotton polyester", ("kids",),
        ("people", (2, 3, 4, 6)),
        en="tent, tents:p, camping tent",
        es="tienda de campaña:f, tiendas de campaña:fp, carpa:f",
        fr="tente:f, tentes:fp, tente de camping:f",
        pt="barraca:f, barracas:fp, barraca de camping:f",
        de="zelt:n, zelte:p, campingzelt:n",
        it="tenda:f, tende:fp, tenda da campeggio:f",
    ),
    _leaf(
        "sports,camping,sleeping bags", _ALL, "nylon cotton polyester", _PEOPLE, ("cm", (170, 200, 220)),
        en="sleeping bag, sleeping bags:p",
        es="saco de dormir:m, sacos de dormir:mp",
        fr="sac de couchage:m, sacs de couchage:mp",
        pt="saco de dormir:m, sacos de dormir:mp",
        de="schlafsack:m, schlafsäcke:p",
        it="sacco a pelo:m, sacchi a pelo:mp",
    ),
    _leaf(
        "sports,camping,flashlights", ("black", "red", "blue", "yellow", "green"), "aluminium plastic rubber",
        ("kids",), _UNSIZED,
        en="flashlight, flashlights:p, torch",
        es="linterna:f, linternas:fp",
        fr="lampe de poche:f, lampes de poche:fp, lampe torche:f",
        pt="lanterna:f, lanternas:fp",
        de="taschenlampe:f, taschenlampen:p",
        it="torcia:f, torce:fp",
    ),
    _leaf(
        "beauty,make-up,lipsticks", ("red", "pink", "brown", "purple", "black"), "", ("women", "kids"), _UNSIZED,
        en="lipstick, lipsticks:p",
        es="pintalabios:m, lápiz labial:m, barra de labios:f",
        fr="rouge à lèvres:m, rouges à lèvres:mp",
        pt="batom:m, batons:mp",
        de="lippenstift:m, lippenstifte:p",
        it="rossetto:m, rossetti:mp",
    ),
    _leaf(
        "beauty,make-up,nail polishes", _ALL, "", ("women", "kids"), ("ml", (5, 10, 15)),
        en="nail polish, nail polishes:p, nail varnish",
        es="esmalte de uñas:m, esmaltes de uñas:mp, pintauñas:m",
        fr="vernis à ongles:m",
        pt="esmalte:m, esmaltes:mp, esmalte de unhas:m",
        de="nagellack:m, nagellacke:p",
        it="smalto per unghie:m, smalti per unghie:mp, smalto:m",
    ),
    _leaf(
        "beauty,body care,shampoos", (), "", _PEOPLE, ("ml", (250, 500, 750)),
        en="shampoo, shampoos:p, hair shampoo",
        es="champú:m, champús:mp",
        fr="shampooing:m, shampooings:mp, shampoing:m",
        pt="xampu:m, xampus:mp, shampoo:m",
        de="shampoo:n, haarshampoo:n",
        it="shampoo:m, shampoo per capelli:m",
    ),
    _leaf(
        "beauty,body care,sunscreens", (), "", _PEOPLE, ("ml", (50, 100, 200)),
        en="sunscreen, sunscreens:p, sun cream",
        es="protector solar:m, protectores solares:mp, crema solar:f",
        fr="crème solaire:f, crèmes solaires:fp",
        pt="protetor solar:m, protetores solares:mp, filtro solar:m",
        de="sonnencreme:f, sonnencremes:p, sonnenmilch:f",
        it="crema solare:f, creme solari:fp, protezione solare:f",
    ),
    _leaf(
        "beauty,body care,hand creams", (), "", _NO_BABY, ("ml", (50, 75, 100)),
        en="hand cream, hand creams:p, hand lotion",
        es="crema de manos:f, cremas de manos:fp",
        fr="crème pour les mains:f, crème mains:f",
        pt="creme para as mãos:m, creme de mãos:m",
        de="handcreme:f, handcremes:p",
        it="crema mani:f, creme mani:fp, crema per le mani:f",
    ),
    _leaf(
        "toys and baby,toys,puzzles", (), "wood cardboard plastic", ("kids", "baby"),
        ("pieces", (50, 100, 500, 1000)),
        en="puzzle, puzzles:p, jigsaw puzzle",
        es="rompecabezas:m, puzle:m, puzles:mp",
        fr="puzzle:m, puzzles:mp",
        pt="quebra-cabeça:m, quebra-cabeças:mp",
        de="puzzle:n, puzzles:p, puzzlespiel:n",
        it="puzzle:m",
    ),
    _leaf(
        "toys and baby,toys,dolls", ("pink", "white", "blue", "purple", "red"), "plastic wood cotton",
        ("kids", "baby"), ("cm", (20, 30, 40)),
        en="doll, dolls:p",
        es="muñeca:f, muñecas:fp",
        fr="poupée:f, poupées:fp",
        pt="boneca:f, bonecas:fp",
        de="puppe:f, puppen:p",
        it="bambola:f, bambole:fp",
    ),
    _leaf(
        "toys and baby,toys,kites", _ALL, "nylon polyester", ("kids",), _UNSIZED,
        en="kite, kites:p",
        es="cometa:f, cometas:fp, barrilete:m",
        fr="cerf-volant:m, cerfs-volants:mp",
        pt="pipa:f, pipas:fp",
        de="drachen:m, lenkdrachen:m",
        it="aquilone:m, aquiloni:mp",
    ),
    _leaf(
        "toys and baby,baby gear,strollers", _ALL, "aluminium steel", (), ("kg", (6, 8, 10)),
        en="stroller, strollers:p, pushchair",
        es="cochecito:m, cochecitos:mp, silla de paseo:f",
        fr="poussette:f, poussettes:fp",
        pt="carrinho de bebê:m, carrinhos de bebê:mp",
        de="kinderwagen:m, buggy:m",
        it="passeggino:m, passeggini:mp",
    ),
    _leaf(
        "toys and baby,baby gear,baby bottles", ("pink", "blue", "white", "green"), "glass plastic", (),
        ("ml", (150, 250, 330)),
        en="baby bottle, baby bottles:p, feeding bottle",
        es="biberón:m, biberones:mp, mamadera:f",
        fr="biberon:m, biberons:mp",
        pt="mamadeira:f, mamadeiras:fp",
        de="babyflasche:f, babyflaschen:p",
        it="biberon:m",
    ),
)  # fmt: skip
