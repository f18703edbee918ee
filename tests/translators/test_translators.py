"""Translation models, on a server and of transformers, chains of translators, and what becomes of them when they break off."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from relevance_core import config
from relevance_core.errors import DataError, ModelError, NotFound, ServingError, SettingsError
from relevance_core.languages import LANGUAGES, TABLE, Family, token_of
from relevance_core.stages.translate import stage as translate
from relevance_core.store import Store
from relevance_core.translators import (
    Chain,
    EndpointTranslator,
    English,
    GlossaryTranslator,
    Machine,
    Seq2SeqTranslator,
    Term,
    Translated,
    Translator,
    add_english,
    open_translator,
    save,
    translate_and_remember,
    translator_from,
)
from relevance_core.translators.answers import read
from relevance_core.translators.words import Keepsakes
from tests.support.completions import Completions
from tests.support.places import DOCS
from tests.support.stage_cases import artifact, log

MODEL = "ByteDance-Seed/Seed-X-PPO-7B"
SHIRT = GlossaryTranslator((Term("1", "es", "camisa"), Term("1", "de", "Hemd"), Term("1", "en", "shirt")), ("Veltano",))


@pytest.fixture
def server() -> Iterator[Completions]:
    with Completions(MODEL) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndpointTranslator, "pauses", (0.0, 0.0))


def machine(*urls: str, **serving: Any) -> Machine:
    return Machine(config.ServingSettings(translators=urls, **serving))


def seed_x(*servers: Completions, **serving: Any) -> EndpointTranslator:
    return EndpointTranslator(MODEL, "main", 128, machine(*(server.url for server in servers), **serving))


# --- languages ---


def test_every_language_has_the_codes_that_the_models_know() -> None:
    """NLLB's codes are among those of its tokenizer, which has two for Chinese; other tokens come from ISO 639-1."""
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert {language.flores for language in TABLE.values()} <= set(FAIRSEQ_LANGUAGE_CODES)
    assert [token_of("zh", family) for family in ("seed-x", "nllb", "m2m100", "madlad")] == ["<zh>", "zho_Hans", "__zh__", "<2zh>"]
    assert LANGUAGES["de"] == "German"


def test_the_guide_has_the_codes_that_are_used() -> None:
    """The table of docs/languages.md is the code's."""
    page = (DOCS / "languages.md").read_text()
    families: tuple[Family, ...] = ("seed-x", "nllb", "m2m100", "madlad")
    for code, language in TABLE.items():
        tokens = (f"`{token_of(code, family)}`" for family in families)
        assert f"| `{code}` | {language.name} | {' | '.join(tokens)} |" in page


# --- what a model wrote ---


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (" rote Schuhe", "rote schuhe"),
        ("rote Schuhe <de>", "rote schuhe"),
        ("\n\n<2de> rote  Schuhe</s>\nrote Stiefel", "rote schuhe"),
    ],
)
def test_the_first_line_without_tags_is_the_translation(output: str, said: str) -> None:
    """White space, tags and further lines go; a query without capitals gets none."""
    assert read(output, "zapatos rojos", "es") == Translated(said, 0, 2)


def test_capitals_of_a_text_with_capitals_stay() -> None:
    """`Zapatos` was typed with one, so the translation may have some."""
    assert read("Rote Schuhe", "Zapatos rojos", "es").text == "Rote Schuhe"


@pytest.mark.parametrize("output", ["", "\n", "<de>", "Zapatos Rojos"])
def test_nothing_or_a_copy_is_no_translation(output: str) -> None:
    """The text stays as it was, all of its two words untranslated."""
    assert read(output, "zapatos rojos", "es") == Translated("zapatos rojos", 2, 2)


def test_an_output_that_was_cut_is_no_translation() -> None:
    """A model that goes round in circles until its longest output has said nothing; a number is no word to translate."""
    assert read("schuhe schuhe schuhe", "zapatos 42", "es", whole=False) == Translated("zapatos 42", 1, 1)


# --- on a server ---


def test_the_request_is_seed_x_s_prompt_decoded_greedily(server: Completions) -> None:
    """One request has both prompts, to the letter, and asks for the likeliest tokens up to the end of the line."""
    server.says = {"zapatos rojos": " rote Schuhe", "botas": " Stiefel"}
    said = seed_x(server).translate(["zapatos  rojos", "botas"], "es", "de")
    assert said == [Translated("rote schuhe", 0, 2), Translated("stiefel", 0, 1)]
    assert server.requests == [
        {
            "model": MODEL,
            "prompt": [
                "Translate the following Spanish sentence into German:\nzapatos rojos <de>",
                "Translate the following Spanish sentence into German:\nbotas <de>",
            ],
            "max_tokens": 128,
            "temperature": 0,
            "stop": ["\n"],
        }
    ]


def test_answers_are_put_in_the_order_of_the_texts(server: Completions) -> None:
    """The server answers last prompt first; every text gets its own."""
    server.reverse = True
    said = seed_x(server).translate(["a", "b", "c"], "es", "de")
    assert [answer.text for answer in said] == ["[a]", "[b]", "[c]"]


def test_an_answer_cut_at_its_longest_is_none(server: Completions) -> None:
    """`finish_reason` length leaves the text untranslated."""
    server.finish = "length"
    assert seed_x(server).translate(["botas"], "es", "de") == [Translated("botas", 1, 1)]


def test_servers_share_a_batch(server: Completions) -> None:
    """Of three texts one server gets two and the other one; one that has another model gets none."""
    with Completions(MODEL) as second, Completions("other") as third:
        said = seed_x(server, second, third).translate(["a", "b", "c"], "es", "de")
        assert sorted(len(request["prompt"]) for request in server.requests + second.requests) == [1, 2]
        assert not third.requests
    assert [answer.text for answer in said] == ["[a]", "[b]", "[c]"]


@pytest.mark.parametrize("fault", [429, 503, "cut", "page", "short"])
def test_what_may_pass_is_tried_again(server: Completions, fault: int | str) -> None:
    """Busy, failing, gone or talking nonsense once: the second try of the same request is answered."""
    server.faults = [fault]
    assert seed_x(server).translate(["a"], "es", "de") == [Translated("[a]", 0, 1)]
    assert len(server.requests) == 2


def test_a_refusal_is_told_at_once(server: Completions) -> None:
    """A 400 is asked once."""
    server.faults = [400, 400]
    with pytest.raises(ServingError, match="400: told to"):
        seed_x(server).translate(["a"], "es", "de")
    assert len(server.requests) == 1


def test_the_key_is_sent(server: Completions, tmp_path: Path) -> None:
    """The file's content is the bearer token; a missing file is refused by name."""
    (tmp_path / "key").write_text("s3cret\n")
    seed_x(server, translator_key=str(tmp_path / "key")).translate(["a"], "es", "de")
    assert server.authorizations == ["Bearer s3cret"]
    with pytest.raises(SettingsError, match=r"can't be read.*gone"):
        seed_x(server, translator_key=str(tmp_path / "gone")).translate(["a"], "es", "de")


def test_a_server_without_the_model_is_told_before_any_work() -> None:
    """The error names what the server has; nothing is sent to it."""
    with Completions("other") as server:
        with pytest.raises(SettingsError, match=rf"no server has the translation model {MODEL}.*among other"):
            seed_x(server).translate(["a"], "es", "de")
        assert not server.requests


def test_without_a_server_the_setting_is_named() -> None:
    """A text that has to be translated and no address: the error says which setting gives one."""
    with pytest.raises(SettingsError, match=r"no server for it; where: serving\.translators"):
        seed_x().translate(["a"], "es", "de")


@pytest.mark.parametrize("pair", [("es", "xx"), ("xx", "de"), ("de", "de")])
def test_a_pair_that_cannot_be_done_is_refused_before_any_work(server: Completions, pair: tuple[str, str]) -> None:
    """A language outside the table, or a text into its own language: refused without a request."""
    with pytest.raises(SettingsError, match="vllm can't translate"):
        seed_x(server).translate(["a"], *pair)
    assert not server.requests


def test_the_version_is_that_of_all_that_decides_the_answers() -> None:
    """Model, revision and longest output make another version; servers and keys do not."""
    plain = EndpointTranslator(MODEL, "main", 128)
    others = [EndpointTranslator("x", "main", 128), EndpointTranslator(MODEL, "v2", 128), EndpointTranslator(MODEL, "main", 64)]
    assert len({plain.version, *(other.version for other in others)}) == 4
    assert EndpointTranslator(MODEL, "main", 128, machine("http://a")).version == plain.version


# --- the memory ---


def test_what_breaks_off_goes_on_from_there(server: Completions, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server fails for good after two batches of two: four of seven texts are kept, and the second try asks for three."""
    monkeypatch.setattr(EndpointTranslator, "batch", 2)
    texts = pl.Series(list("abcdefg"))
    server.faults = [None, None, 503, 503, 503]
    with pytest.raises(ServingError, match=r"503.*4 of the 7 texts are in the translation memory.*run again"):
        translate_and_remember(seed_x(server), store, texts, "es", "de")
    known, hits = translate_and_remember(seed_x(server), store, texts, "es", "de")
    assert hits == 4
    assert known["translation"].to_list() == [f"[{text}]" for text in "abcdefg"]
    assert sorted(server.answered) == list("abcdefg")


def test_what_is_remembered_needs_no_server(server: Completions, store: Store) -> None:
    """A machine without an address reads the memory, and is refused for the first text that is not in it."""
    texts = pl.Series(["a"])
    translate_and_remember(seed_x(server), store, texts, "es", "en")
    known, _ = translate_and_remember(seed_x(), store, texts, "es", "en")
    assert known["translation"].to_list() == ["[a]"]
    with pytest.raises(SettingsError, match="no server for it"):
        add_english(pl.DataFrame({"language": ["es"], "query": ["b"]}), seed_x(), store)


def test_a_search_service_asks_for_what_the_memory_lacks(server: Completions, store: Store) -> None:
    """One query is in the version's memory, the other one is asked for once; a service without an address is told so."""
    translate_and_remember(seed_x(server), store, pl.Series(["botas"]), "es", "en")
    english = English(seed_x(server), store)
    assert [english.of("es", query) for query in ("botas", "gorra", "gorra")] == ["[botas]", "[gorra]", "[gorra]"]
    assert [english.of(language, "gorra") for language in ("en", "xx")] == [None, None]
    assert server.answered == ["botas", "gorra"]
    with pytest.raises(SettingsError, match=r"serving\.translators"):
        English(seed_x(), store).of("es", "gorra")


# --- a chain ---


class Says:
    """A translator with fixed answers, which keeps what it was asked; what it has no answer for it leaves."""

    batch, version = 100, "1"

    def __init__(self, name: str, answers: dict[str, str], languages: Sequence[str] = ("es", "de")) -> None:
        self.name, self.answers, self.languages = name, answers, frozenset(languages)
        self.asked: list[str] = []

    def can(self, source: str, target: str) -> bool:
        return {source, target} <= self.languages

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        self.asked += texts
        return [read(self.answers.get(text, ""), text, source) for text in texts]


def chain(*parts: Translator, brands: tuple[str, ...] = ("Veltano",)) -> Chain:
    return Chain(parts, 0.34, brands)


def test_the_next_gets_what_the_one_before_left() -> None:
    """The glossary knows `camisa` and half of `camisa azul`, which is too little: the model gets that and `botas`."""
    model = Says("model", {"camisa azul": "blaues hemd", "botas": "stiefel"})
    said = chain(SHIRT, model).translate(["camisa", "camisa azul", "botas"], "es", "de")
    assert model.asked == ["camisa azul", "botas"]
    assert said == [Translated("hemd", 0, 1), Translated("blaues hemd", 0, 2), Translated("stiefel", 0, 1)]


def test_brands_and_numbers_are_kept_by_everyone() -> None:
    """The first model translates the brand away and loses a number; the second one, which keeps both, is taken."""
    first = Says("first", {"botas veltano 42": "stiefel welt"})
    second = Says("second", {"botas veltano 42": "veltano stiefel 42"})
    assert [answer.text for answer in chain(first, second).translate(["botas veltano 42"], "es", "de")] == ["veltano stiefel 42"]
    assert [answer.text for answer in chain(second, first).translate(["botas veltano 42"], "es", "de")] == ["veltano stiefel 42"]
    assert first.asked == ["botas veltano 42"]


def test_where_none_is_good_the_least_bad_answer_stands() -> None:
    """One lost the number and translated all, the other kept it and left one of two words: that one stands, for the guards."""
    loses = Says("loses", {"camisa azul 42": "blaues hemd"})
    assert chain(loses, SHIRT).translate(["camisa azul 42"], "es", "de") == [Translated("hemd azul 42", 1, 2)]


def test_a_translator_is_asked_only_for_its_languages() -> None:
    """The first has no Polish; a pair that nobody has is refused."""
    first, second = Says("first", {"camisa": "hemd"}), Says("second", {"camisa": "koszula"}, ("es", "pl"))
    both = chain(first, second)
    assert both.translate(["camisa"], "es", "pl")[0].text == "koszula"
    assert not first.asked
    assert (both.can("es", "de"), both.can("de", "pl"), both.languages) == (True, False, {"es", "de", "pl"})
    with pytest.raises(SettingsError, match="chain can't translate German"):
        both.translate(["hemd"], "de", "pl")


def test_a_chain_remembers_for_each_of_its_translators(store: Store) -> None:
    """A new glossary makes a new chain; the model is not asked again for what it answered in the old one."""
    model = Says("model", {"botas": "stiefel", "azul": "blau"})
    texts = pl.Series(["botas", "azul"])
    old, _ = translate_and_remember(chain(SHIRT, model), store, texts, "es", "de")
    newer = GlossaryTranslator((*SHIRT.terms, Term("2", "es", "azul"), Term("2", "de", "himmelblau")))
    new, hits = translate_and_remember(chain(newer, model), store, texts, "es", "de")
    assert (model.asked, hits) == (["azul", "botas"], 0)
    assert (old["translation"].to_list(), new["translation"].to_list()) == (["blau", "stiefel"], ["himmelblau", "stiefel"])


def test_a_chain_says_how_far_its_model_came(server: Completions, store: Store) -> None:
    """The glossary answers one of two texts, the model's server none: the error counts the model's texts, once."""
    server.faults = [503, 503, 503]
    with pytest.raises(ServingError, match=r"^(?!.*texts.*texts).*0 of the 1 texts are in the translation memory"):
        translate_and_remember(chain(SHIRT, seed_x(server)), store, pl.Series(["camisa", "botas"]), "es", "de")


# --- settings and the store ---


def test_the_settings_name_the_translators() -> None:
    """One is itself, several are a chain in their order; a glossary that is not there is left out."""
    settings = config.load(overrides=[f"translate.translator=glossary,vllm:{MODEL}@v1"]).translate
    made = translator_from(settings, SHIRT, ("Veltano",), machine("http://a"))
    assert made == Chain((SHIRT, EndpointTranslator(MODEL, "v1", 128)), 0.34, ("Veltano",))
    assert translator_from(settings, None, (), Machine()) == EndpointTranslator(MODEL, "v1", 128)
    assert translator_from(config.TranslateSettings(), SHIRT, (), Machine()) == SHIRT
    assert translator_from(config.TranslateSettings(), None, (), Machine()) is None


@pytest.mark.parametrize("name", ["seed-x", "vllm", "vllm:", "vllm:a@", "seq2seq:a b"])
def test_a_translator_that_is_none_is_refused_by_name(name: str) -> None:
    """A kind that is not known, or no model."""
    with pytest.raises(SettingsError, match=r"translate\.translator"):
        config.load(overrides=[f"translate.translator={name}"])


def test_a_saved_chain_opens_where_it_is_needed(store: Store, server: Completions) -> None:
    """Its parts come with it, and its model's server from the machine that opens it; a changed file is refused."""
    made = chain(SHIRT, EndpointTranslator(MODEL, "main", 128))
    ref = save(made, store)
    again = open_translator(ref, store, machine(server.url))
    assert (again, again.version, ref["name"]) == (made, made.version, "chain")
    assert [answer.text for answer in again.translate(["camisa", "botas"], "es", "de")] == ["hemd", "[botas]"]
    store.write(f"{ref['key']}/translator.json", store.read(f"{ref['key']}/translator.json").replace(b"0.34", b"0.5"))
    with pytest.raises(DataError, match="version"):
        open_translator(ref, store)


def test_an_unknown_kind_is_not_opened(store: Store) -> None:
    """What a later release kept is named."""
    with pytest.raises(NotFound, match="no translator named 'oracle'"):
        open_translator({"name": "oracle", "version": "1", "key": "translators/oracle-1"}, store)


# --- the stage ---


def test_the_stage_translates_with_the_chain(store: Store, server: Completions) -> None:
    """The glossary's row and the model's become German ones; where the model copies, or loses the brand, nothing is made."""
    server.says = {"botas": "Stiefel", "bota veltano": "Stiefel", "taxi": "Taxi"}
    train = log(*(("es", query, "things", 1) for query in ("camisa", "botas", "bota veltano", "taxi")))
    rows = "".join("\t".join(term) + "\n" for term in (("term_id", "language", "name"), *SHIRT.terms))
    files = {"brands.txt": b"veltano\n", "terms.tsv.gz": rows.encode()}
    dev = train.clear().with_columns(part=pl.lit("judgement"))
    inputs = translate.Inputs(
        {"source": artifact(store, "ingest", {}, files), "rows": artifact(store, "split", {"train": train, "dev": dev}, {})},
        onboarded=("de",),
    )
    settings = config.build(
        {
            "split": {"dev_share": 1e-9},
            "translate": {"min_rows": 0, "translator": f"glossary,vllm:{MODEL}"},
            "serving": {"translators": [server.url]},
        }
    )
    report = translate.run(settings, inputs, store)
    assert report.figures["languages"]["de"]["made"] == 2
    assert report.rows.reasons == {"dropped: nothing translated": 2}
    assert report.figures["translator"]["name"] == "chain"
    named = settings.model_copy(update={"translate": settings.translate.model_copy(update={"sources": ("es", "xx")})})
    with pytest.raises(SettingsError, match="chain can't translate into de from xx"):
        translate.run(named, inputs, store)


# --- of transformers ---

TAUGHT = {
    ("zapatos rojos", "de"): "rote schuhe",
    ("zapatos rojos", "en"): "red shoes",
    ("botas", "de"): "stiefel",
    ("botas", "en"): "boots",
    ("camisa de rayas", "de"): "gestreiftes hemd",
    ("camisa de rayas", "en"): "striped shirt",
}
WORDS = sorted({f"▁{word}" for (text, _), said in TAUGHT.items() for word in f"{text} {said}".split()})
LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
M2M = {
    "d_model": 32,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    **LAYERS,
}


def words_of_letters(vocabulary: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A BPE that makes whole words of their letters: its vocabulary after the given tokens, and its merges."""
    beginnings = dict.fromkeys(word[:end] for word in WORDS for end in range(2, len(word) + 1))
    letters = sorted(set("".join(WORDS)))
    return {token: n for n, token in enumerate([*vocabulary, *letters, *beginnings])}, [(b[:-1], b[-1]) for b in beginnings]


def teach(model: Any, rows: list[tuple[list[int], list[int]]], told: int = 0) -> None:
    """Trains a model until it says what it was taught: (input ids, target ids), the first `told` of which it is told."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(asked) for asked, _ in rows], batch_first=True, padding_value=model.config.pad_token_id)
    said = pad([torch.tensor(said) for _, said in rows], batch_first=True, padding_value=model.config.pad_token_id)
    before = said.roll(1, 1)
    before[:, 0] = model.config.decoder_start_token_id
    labels = said.masked_fill(said == model.config.pad_token_id, -100)
    labels[:, :told] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(200):
        mask = (ids != model.config.pad_token_id).long()
        loss = model(input_ids=ids, attention_mask=mask, decoder_input_ids=before, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.02:
            return
    raise AssertionError(f"it has not learnt it: {loss}")


def save_nllb(folder: Path) -> Path:
    """An NLLB of one layer that was taught what TAUGHT has."""
    torch.manual_seed(3)
    vocabulary, merges = words_of_letters(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=merges)
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **M2M))
    rows = []
    for (text, language), said in TAUGHT.items():
        tokenizer.src_lang, tokenizer.tgt_lang = "spa_Latn", token_of(language, "nllb")
        rows.append((tokenizer(text)["input_ids"], tokenizer(text_target=said)["input_ids"]))
    teach(model, rows, told=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_madlad(folder: Path) -> Path:
    """A T5 of one layer that was taught the same as MADLAD is: the target's tag stands before the text."""
    torch.manual_seed(3)
    tags = [token_of(language, "madlad") for language in LANGUAGES]
    vocabulary, merges = words_of_letters(["<pad>", "</s>", "<unk>", *tags])
    letters = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Metaspace()
    letters.decoder = decoders.Metaspace()
    letters.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_tokens(tags)
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **shape))
    rows = [(f"{token_of(language, 'madlad')} {text}", said) for (text, language), said in TAUGHT.items()]
    teach(model, [(tokenizer(text)["input_ids"], tokenizer(said)["input_ids"]) for text, said in rows])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_pieces(folder: Path) -> tuple[Path, Path]:
    """A sentencepiece model of words, and a vocabulary of its pieces, as M2M100 and opus-mt have them."""
    import sentencepiece

    texts = [text for (text, _), said in TAUGHT.items() for text in (text, said)] * 10
    folder.mkdir()
    model, vocabulary = folder / "pieces.model", folder / "vocab.json"
    with model.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=stream, model_type="word", vocab_size=len(WORDS) + 3, minloglevel=2
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    known = [pieces.id_to_piece(n) for n in range(3, len(pieces))]
    vocabulary.write_text(json.dumps({token: n for n, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *known])}))
    return model, vocabulary


def save_m2m100(folder: Path) -> Path:
    """An M2M100 of one layer that was taught the same."""
    from transformers import M2M100Tokenizer

    torch.manual_seed(3)
    pieces, vocabulary = save_pieces(folder.with_suffix(".pieces"))
    tokenizer = M2M100Tokenizer(str(vocabulary), str(pieces))
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=tokenizer.get_lang_id("zu") + 1, **M2M))
    rows = []
    for (text, language), said in TAUGHT.items():
        tokenizer.src_lang, tokenizer.tgt_lang = "es", language
        rows.append((tokenizer(text)["input_ids"], tokenizer(text_target=said)["input_ids"]))
    teach(model, rows, told=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_opus(folder: Path) -> Path:
    """An opus-mt of one layer, Spanish to German, that was taught the German half."""
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    torch.manual_seed(3)
    pieces, vocabulary = save_pieces(folder.with_suffix(".pieces"))
    tokenizer = MarianTokenizer(str(pieces), str(pieces), str(vocabulary), source_lang="spa", target_lang="de")
    ids = {"pad_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": 2}
    model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), **M2M, **ids))
    german = [(text, said) for (text, language), said in TAUGHT.items() if language == "de"]
    teach(model, [(tokenizer(text)["input_ids"], tokenizer(text_target=said)["input_ids"]) for text, said in german])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nllb(tmp_path_factory.mktemp("models") / "nllb")


def find(folder: Path) -> Seq2SeqTranslator:
    return Seq2SeqTranslator.find(str(folder), "main", 30, Machine())


def says_what_it_was_taught(translator: Seq2SeqTranslator, languages: Sequence[str]) -> None:
    """Short and long texts in one batch, into each language."""
    texts = ["camisa de rayas", "botas", "zapatos rojos"]
    for language in languages:
        said = [answer.text for answer in translator.translate(texts, "es", language)]
        assert said == [TAUGHT[text, language] for text in texts]


def test_an_nllb_translates_into_the_language_that_is_asked_for(nllb: Path) -> None:
    """The same texts give German under `deu_Latn` and English under `eng_Latn`."""
    assert find(nllb).kind == "nllb"
    says_what_it_was_taught(find(nllb), ["de", "en"])


def test_a_madlad_translates_into_the_language_that_is_asked_for(tmp_path: Path) -> None:
    """The same texts give German under `<2de>` and English under `<2en>`."""
    translator = find(save_madlad(tmp_path / "madlad"))
    assert translator.kind == "madlad"
    says_what_it_was_taught(translator, ["de", "en"])


def test_an_m2m100_translates_into_the_language_that_is_asked_for(tmp_path: Path) -> None:
    """The same texts give German under `__de__` and English under `__en__`."""
    pytest.importorskip("sentencepiece")
    translator = find(save_m2m100(tmp_path / "m2m100"))
    assert translator.kind == "m2m100"
    says_what_it_was_taught(translator, ["de", "en"])


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses:UserWarning")  # which it can do without
def test_an_opus_mt_translates_its_pair_alone(tmp_path: Path) -> None:
    """Its languages are those that it says, in one direction."""
    pytest.importorskip("sentencepiece")
    translator = find(save_opus(tmp_path / "opus"))
    assert (translator.kind, translator.pair, translator.languages) == ("opus-mt", ("es", "de"), {"es", "de"})
    says_what_it_was_taught(translator, ["de"])
    with pytest.raises(SettingsError, match="seq2seq can't translate German"):
        translator.translate(["hemd"], "de", "es")


def test_a_model_that_does_not_come_to_an_end_says_nothing(nllb: Path) -> None:
    """`rote schuhe` is more than three tokens long."""
    short = Seq2SeqTranslator.find(str(nllb), "main", 3, Machine())
    assert short.translate(["zapatos rojos"], "es", "de") == [Translated("zapatos rojos", 2, 2)]


def test_a_folder_s_content_is_its_revision(nllb: Path, store: Store, tmp_path: Path) -> None:
    """A saved translator opens wherever the same files lie; changed ones are another translator, and are refused."""
    moved = tmp_path / "nllb"
    shutil.copytree(nllb, moved)
    translator = find(moved)
    assert translator.version == find(nllb).version
    ref = save(translator, store)
    assert open_translator(ref, store) == translator
    (moved / "README.md").write_text("another model")
    assert find(moved).version != translator.version
    with pytest.raises(ModelError, match="digest"):
        open_translator(ref, store).translate(["botas"], "es", "de")


def test_an_id_counts_with_its_commit(nllb: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` of the local cache is pinned when the translator is made: a later `main` is another one, and the first still opens."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--shop--nllb"
    (cache / "refs").mkdir(parents=True)
    versions = []
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(nllb, cache / "snapshots" / commit)
        (cache / "refs" / "main").write_text(commit)
        versions.append(Seq2SeqTranslator.find("shop/nllb", "main", 30, Machine()))
    assert [(version.model, version.revision[0], version.source) for version in versions] == [
        ("shop/nllb", "a", "shop/nllb"),
        ("shop/nllb", "b", "shop/nllb"),
    ]
    assert versions[0].version != versions[1].version
    shutil.rmtree(cache / "snapshots" / ("b" * 40))
    assert open_translator(save(versions[0], store), store).translate(["botas"], "es", "de")[0].text == "stiefel"


def test_a_model_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    """Neither a causal model nor a folder without one translates; an id that is not here says how to fetch it."""
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text('{"model_type": "qwen3"}')
    with pytest.raises(SettingsError, match="architecture qwen3"):
        find(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    with pytest.raises(SettingsError, match="None into None"):
        find(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        find(tmp_path)
    with pytest.raises(ModelError, match="hf download facebook/nllb --revision main"):
        find(Path("facebook/nllb"))


def test_a_tokenizer_without_the_languages_is_refused(nllb: Path, tmp_path: Path) -> None:
    """An M2M100 by its name with NLLB's codes in its tokenizer."""
    broken = tmp_path / "broken"
    shutil.copytree(nllb, broken)
    translator = dataclasses.replace(find(broken), kind="m2m100")
    with pytest.raises(ModelError, match="does not know the languages __ar__, __de__"):
        translator.translate(["botas"], "es", "de")


def test_fractions_and_powers_are_numbers_to_keep() -> None:
    """7½, ½ and 10² stay, with the unit behind each; half is a word."""
    kept = Keepsakes().of("7½ cm, ½ l, 10² m, half", "en")
    assert dict(kept) == {"7½": 1, "cm": 1, "½": 1, "l": 1, "10²": 1, "m": 1}
