"""``dferkit bench``: a list of models on one data set, in one protocol and one table, with the frame-order test beside it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.clip_model import KINDS, ClipEncoder
from dferkit.encoders.open import open_visual_encoder
from dferkit.errors import ConfigError
from dferkit.evaluation.scored import ScoredClips, evaluate_clips, join
from dferkit.models.checkpoint import Checkpoint, TrainedModel, save_checkpoint
from dferkit.models.coarse import CoarseClassifier
from dferkit.recipes.bench_data import BenchData, Split, Tell, open_data
from dferkit.recipes.provenance import UNCALIBRATED, about_checkpoint, claim_run, refuse_other_run
from dferkit.recipes.scoring import mean_over_views, scored_clips, write_scores
from dferkit.recipes.training_run import apply_settings
from dferkit.reports.results_table import markdown_rows, results_table, write_results
from dferkit.reports.tables import Provenance, own_version
from dferkit.schema import ClipStatus
from dferkit.storage import atomic_path, natural_key, read_json, write_json, write_text
from dferkit.tokens.features import one_thread
from dferkit.training.contenders import CONTENDERS, BenchConfig, Lesson, find_contender, in_order

_ANSWERS = "answers.safetensors"
ORDERS = ("normal", "random", "reversed")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRun:
    """What is compared.

    Attributes:
        clip, videomae: Where contenders get their encoder; clip_size: ``upsample`` or ``interpolate`` (see ``ClipEncoder``); VideoMAE is a small random one by default, which knows nothing.
        fold: Of a store: a name, or ``all``. views, with_flip: Of a store: views of every clip in time, each also mirrored (``views.clip_views``). labels: Classes of a ``clips.csv`` other than the seven; a store knows its own. seeds: Each model is trained with seeds 0, 1, …. face: Detector for a ``clips.csv``, ``haar`` by default.
    """

    models: tuple[str, ...]
    clip: str | None = None
    clip_size: str = "upsample"
    videomae: str | None = None
    fold: str = "all"
    views: int = 1
    with_flip: bool = False
    labels: tuple[str, ...] | None = None
    seeds: int = 1
    face: str | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clip_size not in KINDS:
            raise ConfigError(f"clip size is {self.clip_size!r}; choose {', '.join(KINDS)}")
        if self.labels is not None and (len(set(self.labels)) < max(len(self.labels), 2) or not all(self.labels)):
            raise ConfigError(f"labels are {', '.join(map(repr, self.labels))}; give two or more different names")

    def encoder_of(self, reads: str) -> str:
        """Name of the visual encoder of a contender. What reads no tokens takes its clips from those that another one reads."""
        if reads == "nothing":
            others = [find_contender(name).reads for name in self.models]
            reads = next((other for other in others if other != "nothing"), "box")
        # A folder is named in full: a kept checkpoint looks for its encoder from anywhere.
        clip, videomae = (str(Path(s).resolve()) if s and Path(s).is_dir() else s for s in (self.clip, self.videomae))
        return {"clip": f"{KINDS[self.clip_size]}:{clip}", "videomae": videomae or "videomae"}.get(reads, "box")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a comparison gave.

    Attributes:
        table: Markdown. unused: Clips that no model could use, with status and reason, by clip id. warnings: Keys of ``metrics.WARNINGS`` of any row.
    """

    table: str
    unused: Mapping[str, str]
    warnings: tuple[str, ...]


def run_bench(
    data: Path | str, out: Path | str, run: BenchRun, *, workers: int | None = None, tell: Tell | None = None
) -> Outcome:
    """Train and test every model; write ``MODEL/seed-N/`` (answers and figures), ``results.*``, ``order.md`` and ``bench.json``.

    What is finished is kept: the same call goes on after an interruption. All that can be refused is refused before anything is encoded or written.

    Returns:
        The table and what to know about it.

    Raises:
        ConfigError: An unknown model or setting, CLIP models without a CLIP folder, or a folder that holds another comparison.
        ManifestError: No such data, or a table without a training and a test side.
    """
    out, report = Path(out), tell or (lambda stage, done, of, note: None)
    config = _planned(run)
    towers = _towers(run, config)
    clips = open_data(
        Path(data), fold=run.fold, views=run.views, with_flip=run.with_flip, labels=run.labels, face=run.face, cache=out / "cache", workers=workers
    )  # fmt: skip
    _claim(out, run, clips, towers)
    jobs = [(name, seed) for name in dict.fromkeys(run.models) for seed in range(run.seeds)]
    for number, (name, seed) in enumerate(jobs):
        report("models", number, len(jobs), name)
        with one_thread():
            _compete(name, out, clips, run, config.with_seed(seed), towers, report)
    report("models", len(jobs), len(jobs), "")
    return _write_tables(out, config)


def _planned(run: BenchRun) -> BenchConfig:
    config: BenchConfig = apply_settings(BenchConfig(), run.settings)
    if config != config.with_seed(0):
        raise ConfigError("a seed is no setting of bench: it trains with seeds 0, 1, …; say how many with --seeds")
    return config


def _towers(run: BenchRun, config: BenchConfig) -> ClipEncoder | None:
    """CLIP, where a model reads it."""
    contenders = {name: find_contender(name) for name in run.models}
    needy = [name for name, contender in contenders.items() if contender.reads == "clip"]
    if not needy:
        return None
    if run.clip is None:
        raise ConfigError(f"CLIP is read by {', '.join(needy)}: give its folder with --clip")
    towers = ClipEncoder(run.clip, size=run.clip_size)
    if any(contender.has_paragraphs for contender in contenders.values()) and config.tokens > towers.max_tokens:
        raise ConfigError(f"tokens is {config.tokens}; {towers.name} takes sentences of up to {towers.max_tokens}")
    if any(contender.tells_words for contender in contenders.values()):
        towers.open_tokenizer()
    return towers


def _claim(out: Path, run: BenchRun, clips: BenchData, towers: ClipEncoder | None) -> None:
    """The folder holds one comparison: one data set, one protocol, one version, and one encoder of each kind.

    Raises:
        ConfigError: It holds another one; then nothing is written.
    """
    if not any(out.glob("*/seed-*")):  # a call that ended before anything was learned holds nothing
        for path in (out / "run.json", *out.glob("*/run.json")):
            path.unlink(missing_ok=True)
    of_reads: dict[str, dict[str, str]] = {"nothing": {}}
    claims: dict[str, dict[str, str]] = {}
    for name in run.models:
        contender = find_contender(name)
        reads = contender.reads
        if reads == "clip":
            assert towers is not None
            of_reads[reads] = {"encoder_digest": towers.digest, "text_digest": towers.text_digest}
        elif reads not in of_reads:
            of_reads[reads] = {"encoder_digest": open_visual_encoder(run.encoder_of(reads)).digest}
        claims[name] = dict(of_reads[reads])
        if contender.tells_words and towers is not None:
            claims[name]["tokenizer"] = towers.tokenizer_digest
        for other, rival in CONTENDERS.items():
            path = out / other / "run.json"
            if rival.reads == reads and path.is_file() and not of_reads[reads].items() <= read_json(path).items():
                raise ConfigError(
                    f"{other} in {out.name}/ reads another {reads}, and one table compares on one; give the same --clip, --clip-size and --videomae, or another --out"
                )
    whole = {
        "data": clips.digest,
        "folds": list(clips.folds),
        "views": run.views,
        "flip": run.with_flip,
        "settings": sorted(run.settings),
        "labels": run.labels,
        "version": own_version(),
    }
    refuse_other_run(out, whole)
    for name, claim in claims.items():
        refuse_other_run(out / name, claim)
    claim_run(out, whole)
    for name, claim in claims.items():
        claim_run(out / name, claim)


def _write_tables(out: Path, config: BenchConfig) -> Outcome:
    """Tables of every model that is finished in this folder, in the order of the list of models."""
    rows: dict[str, Mapping[str, Any]] = {}
    orders: dict[str, dict[str, float]] = {}
    models: dict[str, Mapping[str, Any]] = {}
    unused: dict[str, str] = {}
    for name in CONTENDERS:
        done = sorted((out / name).glob("seed-*/order.json"), key=lambda path: natural_key(path.parent.name))
        for path in done:
            title = name if len(done) == 1 else f"{name}, {path.parent.name.replace('-', ' ')}"
            kept = read_json(path)
            rows[title] = read_json(path.parent / "metrics.json")
            models[name] = {"what": CONTENDERS[name].what, **rows[title]["model"]}
            orders[title] = {order: kept[order] for order in ORDERS}
            unused |= kept["unused"]
    write_results(out, rows)
    write_text(out / "order.md", order_table(orders))
    write_json(out / "bench.json", {"version": own_version(), "config": asdict(config), "models": models, "order": orders, "unused": unused})  # fmt: skip
    warnings = tuple(dict.fromkeys(warning for row in rows.values() for warning in row["warnings"]))
    return Outcome(table=results_table(rows), unused=unused, warnings=warnings)


def order_table(orders: Mapping[str, Mapping[str, float]]) -> str:
    """UAR with the encoder's time steps in their order, in a random one and backwards (after the paper's Table 5, which shuffles frames)."""
    lines = [
        [name, f"{uars['normal']:.3f}", *(f"{uars[o]:.3f} ({uars[o] - uars['normal']:+.3f})" for o in ORDERS[1:])]
        for name, uars in orders.items()
    ]
    return markdown_rows(("model", "UAR, time steps in order", "random order", "reversed"), lines)


def _compete(
    name: str, out: Path, clips: BenchData, run: BenchRun, config: BenchConfig, towers: ClipEncoder | None, tell: Tell
) -> None:
    """Train and test one model on every fold; a fold's answers are kept, ``order.json`` is written last."""
    folder, encoder = out / name / f"seed-{config.bap.seed}", run.encoder_of(find_contender(name).reads)
    if (folder / "order.json").is_file():
        return
    parts: dict[str, list[ScoredClips]] = {order: [] for order in ORDERS}
    views: Counter[int] = Counter()
    statuses: dict[str, ClipStatus] = {}
    for fold in clips.folds:
        split = clips.split(fold, encoder, tell)
        told = _answers(name, folder, split, config, towers, tell)
        views.update(Counter(split.test.clip_ids).values())
        statuses.update(split.statuses)
        for order in ORDERS:
            answered = mean_over_views(split.test.clip_ids, told[order])
            parts[order].append(scored_clips(split.records, answered, split.train.labels, fold=fold))
    provenance = Provenance(
        model=name, calibration=UNCALIBRATED, trained_on="the training side of each fold", weights_sha256=""
    )
    about = {"model": name, "encoder": "" if find_contender(name).reads == "nothing" else encoder, "test_clips_by_different_views": {str(n): views[n] for n in sorted(views)}}  # fmt: skip
    figures = write_scores(folder, join(parts["normal"]), provenance, statuses=statuses, about=about, selection="last")
    others = {order: evaluate_clips(join(parts[order])).uar for order in ORDERS[1:]}
    unused = {
        clip_id: f"{status.status}: {status.message}"
        for clip_id, status in statuses.items()
        if status.status in ("no_face", "unreadable")
    }
    write_json(folder / "order.json", {"normal": figures["uar"], **others, "unused": unused})


def _answers(
    name: str, folder: Path, split: Split, config: BenchConfig, towers: ClipEncoder | None, tell: Tell
) -> Mapping[str, np.ndarray]:
    """Class probabilities of the test rows in every order of time, from the disk or from a training."""
    state = folder / "state" / split.name
    if (state / _ANSWERS).is_file():
        return load_file(state / _ANSWERS)

    def keep(model: TrainedModel, coarse: CoarseClassifier) -> None:
        about = about_checkpoint(
            name, box=BOX_FOLDER, trained_on=f"{split.about['source']}, training side of fold {split.name} ({len(set(split.train.clip_ids))} clips)",
            seed=config.bap.seed, fold=split.name, selection="last", training=asdict(config), **split.about,
        )  # fmt: skip
        save_checkpoint(Checkpoint(model=model, coarse=coarse, about=about), folder / "checkpoints" / split.name)

    lesson = Lesson(
        train=split.train, test=split.test, config=config, clip=towers, state=state, keep=keep,
        tell=lambda done, of, loss: tell("training", done, of, f"{name}, seed {config.bap.seed}, fold {split.name}: loss {loss:.3f}"),
    )  # fmt: skip
    answer = find_contender(name).learn(lesson)
    told = {order: answer(in_order(split.test, order)) for order in ORDERS}
    shutil.rmtree(state, ignore_errors=True)  # what an interrupted training goes on from
    with atomic_path(state / _ANSWERS) as temporary:
        save_file(told, temporary)
    return told
