"""The frozen list of settings: a switch of the method comes in with its measured gain, another setting with its kind and user."""

from __future__ import annotations

import pytest

from tests.support.setting_names import setting_names

METHOD = {
    "translate.enabled": "F1 +0.069 QC, +0.046 QI on the simulated shop (docs/method.md)",
    "translate.guards": "0.3 % of right names doubted, 64 % of names in another language found (docs/languages.md)",
    "mine.enabled": "F1 +0.006 QC, +0.027 QI on the simulated shop (docs/method.md)",
    "mine.mix": "F1 +0.014 QI of hard ones over random ones (docs/method.md); easy ones helped the fourth place",
    "denoise.enabled": "arXiv 2510.21671, strategy 3",
    "denoise.mode": "arXiv 2510.21671, strategy 3: in-sample is the published way",
    "denoise.detector": "arXiv 1911.00068; recall 0.58 against 0.40 out-of-fold (docs/method.md)",
    "denoise.confidence_not_relevant": "undecided: kept until the filter has been measured on a real base",
    "denoise.votes": "arXiv 2510.21671 names the majority of several models",
    "denoise.action": "arXiv 2510.21671 drops; review fills the queue of docs/review.md",
    "prompt.translation": "arXiv 2510.25428; AUC 0.981 against 0.779 on the real terms (docs/method.md)",
    "train.tapt": "arXiv 2510.25428: +0.14 QC, +0.02 QI points",
    "split.qc_group": "arXiv 2510.25428",
}
"""Settings that change the method: the measured gain or the source of each."""

OTHERS = {
    "run": ("who begins a run", "tasks onboard seed"),
    "source": (
        "who keeps the logs",
        """source.uri source.sql source.connection source.clicks source.catalogue source.task source.columns
        source.labels source.label_bound source.languages source.time_zone source.encoding source.csv.delimiter source.csv.quote
        source.csv.escape source.bad_rows translate.glossary translate.brands base.click_days""",
    ),
    "window": ("who schedules the loop", "window.start window.end window.days window.history_days"),
    "rule": (
        "who answers for the rows",
        """validation.languages validation.max_query_chars validation.max_target_chars validation.max_quarantine_share
        validation.min_rows validation.min_rows_of_mean validation.max_rows_of_mean validation.min_positive_rate
        validation.max_positive_rate validation.rate_min_rows validation.max_language_drift validation.max_contradicting_share
        translate.max_untranslated translate.length_ratio translate.language_confidence mine.duplicate_similarity""",
    ),
    "split": ("who judges", "split.dev_share split.calibration_share split.prefix_levels"),
    "model": (
        "who chooses the models",
        """translate.translator translate.max_new_tokens mine.embedder base.model base.revision base.dtype prompt.template
        prompt.max_tokens""",
    ),
    "amount": (
        "who tunes the method",
        """translate.sources translate.min_rows translate.rows translate.of_largest mine.top_k mine.ratio mine.easy_top
        mine.index mine.index_from denoise.folds denoise.confidence denoise.max_share denoise.epochs train.r train.alpha
        train.dropout train.learning_rate train.epochs train.batch_size train.warmup_ratio train.max_grad_norm train.save_steps
        train.tapt_epochs""",
    ),
    "builtin": (
        "who has no base: demos, tests, a laptop",
        """base.builtin.vocabulary base.builtin.hidden base.builtin.layers base.builtin.contrastive_steps
        base.builtin.documents""",
    ),
    "gate": (
        "who approves",
        """gate.min_f1 gate.min_over_always_yes gate.confidence gate.min_gain gate.resamples gate.max_language_loss
        gate.min_language_rows gate.min_evidence_rows approval.hours""",
    ),
    "deployment": (
        "who runs the machines",
        """serving.endpoints serving.python serving.tolerance serving.max_rank serving.slots serving.cached serving.verify_key
        serving.sign_key serving.dtype serving.start_servers serving.start_seconds serving.drain_seconds
        serving.staleness_seconds serving.timeout_seconds serving.translators serving.translator_key serving.mixed_bases
        engine.workers engine.threads engine.device engine.gpus engine.scorer""",
    ),
}
"""Kind → who sets the settings of that kind, and their names. Their defaults are those of docs/settings.md."""

MOST = 14
LISTED = [*METHOD, *(name for _, names in OTHERS.values() for name in names.split())]


def test_every_setting_is_listed_and_once() -> None:
    """A new setting fails here until it is in one of the lists, with what is asked of it."""
    new, gone = sorted(set(setting_names()) - set(LISTED)), sorted(set(LISTED) - set(setting_names()))
    assert not new, (
        f"{', '.join(new)}: add a switch of the method to METHOD with the gain that was measured (docs/method.md), any other "
        "setting to OTHERS under its kind, with a default that suits whoever sets it"
    )
    assert not gone, (
        f"{', '.join(gone)}: take it out of the list, and into relevance_core/config/history.py with what to do instead"
    )
    assert len(LISTED) == len(set(LISTED))


def test_the_method_has_few_switches() -> None:
    """At most 14 settings change the method; one more pushes out another that gained less."""
    assert len(METHOD) <= MOST


@pytest.mark.parametrize("name", METHOD)
def test_a_switch_says_why_it_is_there(name: str) -> None:
    """A gain in figures, a paper, or until when it stays undecided."""
    assert METHOD[name].startswith("undecided: ") or any(sign.isdigit() for sign in METHOD[name])
