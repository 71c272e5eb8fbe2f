"""``dferkit bench``: a list of models on one data set, in one protocol and one table, with the frame-order test beside it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from dferkit.datasets.protocol import ProtocolConfig, choose_folds, split_fold
from dferkit.encoders.clip_model import KINDS, ClipEncoder
from dferkit.encoders.front_end import FRONT_ENDS, front_end_of
from dferkit.encoders.open import BUNDLED_TEXT, choose_text_encoder, open_visual_encoder, text_folder, with_full_path
from dferkit.encoders.text import digest_text_model
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.evaluation.peers import read_predictions
from dferkit.evaluation.scored import ScoredClips, evaluate_clips, join
from dferkit.evaluation.seeds import evaluate_seeds
from dferkit.faces.status import unused_clips
from dferkit.labels import near_name
from dferkit.models.registry import FAMILIES, MODELS, find_model
from dferkit.recipes.data import DataOptions, LabelledClips, StoreClips, open_clips
from dferkit.recipes.provenance import claim_run, refuse_other_run
from dferkit.recipes.scores import scored_clips, write_scores
from dferkit.reports.results_table import markdown_rows, results_table, write_results
from dferkit.reports.tables import Provenance, own_version
from dferkit.schema import ClipStatus, Fold, ReportProgress
from dferkit.storage import atomic_path, natural_key, read_json, write_json, write_text
from dferkit.tokens.dataset import TokenDataset, in_order
from dferkit.tokens.features import TokenConfig, one_thread
from dferkit.training.about import UNCALIBRATED
from dferkit.training.fit import Fitted, fit
from dferkit.training.score import captioned_for, score
from dferkit.training.spec import TrainingSpec

_ANSWERS = "answers.safetensors"
ORDERS = ("normal", "random", "reversed")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRun:
    """What is compared.

    Attributes:
        encoder: Of models that read the front end; a CLIP also of those that read CLIP, in place of ``clip``. clip, videomae: Where models get their encoder; VideoMAE is a small random one by default, which has learned nothing.
        text_encoder: What reads the captions, see ``choose_text_encoder``.
        clip_size: ``upsample`` or ``interpolate`` (see ``ClipEncoder``).
        fold: Of a store: a name, or ``all``. views, with_flip: Of a store: views of every clip in time, each also mirrored (``views.clip_views``).
        seeds: Each model is trained with seeds 0, 1, ….
        settings: ``FAMILY.training.epochs=5`` changes a setting of the models of a family (``grace``, ``a3lign``, ``baseline``).
    """

    models: tuple[str, ...]
    encoder: str = FRONT_ENDS["pixels"]
    text_encoder: str | None = None
    clip: str | None = None
    clip_size: str = "upsample"
    videomae: str | None = None
    fold: str = "all"
    views: int = 1
    with_flip: bool = False
    seeds: int = 1
    settings: tuple[str, ...] = ()
    device: str = "cpu"
    options: DataOptions = field(default_factory=DataOptions)

    def __post_init__(self) -> None:
        if self.clip_size not in KINDS:
            raise ConfigError(f"clip size is {self.clip_size!r}; choose {', '.join(KINDS)}")
        read = {find_model(name).reads for name in self.models}
        given: Mapping[str, Mapping[str, object]] = {
            "clip": {"--clip": self.clip, "--clip-size": self.clip_size != "upsample"},
            "videomae": {"--videomae": self.videomae},
        }
        for reads, values in given.items():
            if unread := [option for option, value in values.items() if value and reads not in read]:
                raise ConfigError(
                    f"no model of this comparison reads {unread[0]}; leave it out, or add a model to --models"
                )
        if self.text_encoder is not None and not any(find_model(name).reads_text for name in self.models):
            raise ConfigError("no model of this comparison reads captions; leave out --text-encoder")
        if self.clip_size != "upsample" and self.clip is None:
            raise ConfigError("--clip-size is for --clip; give --clip FOLDER, or --encoder clip-interpolate:FOLDER")

    def encoder_of(self, name: str) -> str:
        """Visual encoder of a model. A model that reads no tokens takes its clips from those that another one reads."""
        reads = find_model(name).reads
        if reads == "nothing":
            others = [find_model(other).reads for other in self.models]
            reads = next((other for other in others if other != "nothing"), "front end")
        if reads == "videomae" and self.videomae:
            return with_full_path(f"videomae:{self.videomae}")
        if reads == "clip" and (self.clip or self.encoder.partition(":")[0] not in KINDS.values()):
            return with_full_path(f"{KINDS[self.clip_size]}:{self.clip or ''}")
        return "videomae" if reads == "videomae" else self.encoder

    def spec_of(self, name: str, seed: int) -> TrainingSpec:
        """One training of the comparison."""
        entry, found = find_model(name), []
        for setting in self.settings:
            head, _, rest = setting.partition(".")
            if head not in FAMILIES or not rest:
                raise ConfigError(
                    f"--set {setting}: a setting of bench begins with a family of models; such as {near_name(head, FAMILIES) or 'grace'}.training.epochs=5. Families: {', '.join(FAMILIES)}"
                )
            key = rest.partition("=")[0].strip()
            # A model in closed form has no training, and others do not read every setting of their family.
            has_none = entry.learns == "solution" and key.startswith("training.") and key != "training.seed"
            has_none |= key.startswith("space.") and not entry.matches_captions()
            if head == entry.family and not has_none and key not in entry.ignores:
                found.append(rest)
        encoder = self.encoder_of(name)
        text = choose_text_encoder(self.text_encoder, encoder) if entry.reads_text else BUNDLED_TEXT
        return TrainingSpec(
            model=name, encoder=encoder, text_encoder=text, settings=tuple(found), seed=seed, device=self.device
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a comparison gave.

    Attributes:
        table: Markdown. unused: Clips that no model could use, with status and reason, by clip id. warnings: Keys of ``metrics.WARNINGS`` of any row.
    """

    table: str
    unused: Mapping[str, str]
    warnings: tuple[str, ...]


def run_bench(data: Path | str, out: Path | str, run: BenchRun, *, report: ReportProgress | None = None) -> Outcome:
    """Train and test every model; write ``MODEL/seed-N/`` (answers and figures), ``results.*``, ``order.md`` and ``bench.json``.

    What is finished is kept: the same call goes on after an interruption. All that can be refused is refused before anything is encoded or written.

    Raises:
        ConfigError: An unknown model or setting, CLIP models without a CLIP folder, or a folder that holds another comparison.
        ManifestError: No such data, or a table without a training and a test side.
    """
    out, progress = Path(out), report or (lambda stage, done, of, note: None)
    named = {setting.partition(".")[0] for setting in run.settings}
    others = [name for name, entry in MODELS.items() if entry.family in named and entry.learns != "solution"]
    for name in dict.fromkeys(
        (*run.models, *others)
    ):  # a wrong setting is refused, also of models that are not compared
        run.spec_of(name, 0).plan()
    towers = _towers(run)
    clips, folds = _open(Path(data), out, run)
    _claim(out, run, clips, folds, towers)
    jobs = [(name, seed) for name in dict.fromkeys(run.models) for seed in range(run.seeds)]
    for number, (name, seed) in enumerate(jobs):
        progress("models", number, len(jobs), name)
        with one_thread():
            _train_and_test(out, clips, folds, run, run.spec_of(name, seed), progress)
    progress("models", len(jobs), len(jobs), "")
    return _write_tables(out, run)


def _open(data: Path, out: Path, run: BenchRun) -> tuple[LabelledClips, Sequence[Fold]]:
    """The data set and the folds to compare on."""
    clips = open_clips(data, out / "cache", run.options)
    if isinstance(clips, StoreClips):
        folds = choose_folds(clips.store.release, run.fold)
        last = ProtocolConfig(select="last")
        return clips, [replace(fold, train=split_fold(clips.store.release, fold, last).train) for fold in folds]
    if run.views > 1 or run.with_flip:
        raise ConfigError(
            f"views are for a store, and {clips.name} has none; make one with dferkit prepare, or leave --views and --flip out"
        )
    if run.fold not in ("all", "test"):
        raise ConfigError(f"no fold {run.fold!r}: {clips.name} has one split; leave --fold out")
    found = {record.label for record in clips.records}
    if absent := [name for name in run.options.labels or () if name not in found]:
        raise ConfigError(f"no clip of {clips.name} is labelled {absent[0]!r}; leave it out of the labels")
    if not clips.folds:
        raise ManifestError(f"{clips.name} needs a column split with rows train and test, or nothing can be compared")
    return clips, clips.folds


def _towers(run: BenchRun) -> ClipEncoder | None:
    """CLIP, where a model reads it."""
    needy = [name for name in run.models if find_model(name).reads == "clip"]
    if not needy:
        return None
    spec = run.encoder_of(needy[0])
    if spec.endswith(":"):
        raise ConfigError(f"CLIP is read by {', '.join(needy)}: give its folder with --clip")
    towers = open_visual_encoder(spec)
    assert isinstance(towers, ClipEncoder)
    for name in needy:
        tokens = getattr(run.spec_of(name, 0).plan().model, "num_tokens", 0)
        if tokens > towers.max_tokens:
            raise ConfigError(f"num_tokens is {tokens}; {towers.name} takes sentences of up to {towers.max_tokens}")
    if any(find_model(name).class_text for name in needy):
        towers.open_tokenizer()
    return towers


def _claim(out: Path, run: BenchRun, clips: LabelledClips, folds: Sequence[Fold], towers: ClipEncoder | None) -> None:
    """The folder holds one comparison: one data set, one protocol, one version, and one encoder of each kind.

    Raises:
        ConfigError: It holds another one; then nothing is written.
    """
    if not any(out.glob("*/seed-*")):  # a call that ended before anything was trained holds nothing
        for path in (out / "run.json", *out.glob("*/run.json")):
            path.unlink(missing_ok=True)
    of_reads: dict[str, dict[str, str]] = {"nothing": {}}
    claims: dict[str, dict[str, str]] = {}
    of_text: str | None = None  # all models that read captions read the same visual encoder
    for name in run.models:
        entry = find_model(name)
        reads = entry.reads
        if reads == "clip":
            assert towers is not None
            of_reads[reads] = {"encoder_digest": towers.digest, "text_digest": towers.text_digest}
        elif reads not in of_reads:
            of_reads[reads] = {"encoder_digest": open_visual_encoder(run.encoder_of(name)).digest}
        claims[name] = dict(of_reads[reads])
        if entry.reads_text:
            spec = run.spec_of(name, 0)
            of_text = digest_text_model(text_folder(spec.text_encoder, spec.encoder)) if of_text is None else of_text
            claims[name]["text_encoder_digest"] = of_text
        if entry.class_text is not None and towers is not None:
            claims[name]["tokenizer"] = towers.tokenizer_digest
        for other, rival in MODELS.items():
            path = out / other / "run.json"
            if rival.reads == reads and path.is_file() and not of_reads[reads].items() <= read_json(path).items():
                raise ConfigError(
                    f"{other} in {out.name}/ reads another {reads}, and one table compares on one; give the same --front-end, --clip, --clip-size and --videomae, or another --out"
                )
    whole = {
        "data": clips.digest,
        "folds": [fold.name for fold in folds],
        "views": run.views,
        "flip": run.with_flip,
        "text_encoder": run.text_encoder,
        "settings": sorted(run.settings),
        "labels": run.options.labels,
        "device": run.device.partition(":")[0],  # the same bytes are promised on the CPU only
        "version": own_version(),
    }
    refuse_other_run(out, whole)
    for name, claim in claims.items():
        refuse_other_run(out / name, claim)
    claim_run(out, whole)
    for name, claim in claims.items():
        claim_run(out / name, claim)


def _train_and_test(
    out: Path,
    clips: LabelledClips,
    folds: Sequence[Fold],
    run: BenchRun,
    spec: TrainingSpec,
    report: ReportProgress,
) -> None:
    """Train and test one model on every fold; a fold's answers are kept, ``order.json`` is written last."""
    name, folder = spec.model, out / spec.model / f"seed-{spec.seed}"
    if (folder / "order.json").is_file():
        return
    by_id = {record.clip_id: record for record in clips.records}
    parts: dict[str, list[ScoredClips]] = {order: [] for order in ORDERS}
    views: Counter[int] = Counter()
    statuses: dict[str, ClipStatus] = {}
    motion = getattr(spec.plan().model, "motion_source", "tokens")
    config = TokenConfig(
        encoder=spec.encoder, times=run.views, with_flip=run.with_flip, motion=motion, device=spec.device
    )
    for fold in folds:
        sides: dict[str, TokenDataset] = {}
        for side, ids in (("train", fold.train), ("test", fold.test)):
            sides[side] = clips.read([by_id[i] for i in ids], config, part=side, all_views=True, report=report)
            if not len(sides[side]):
                raise DataError(f"fold {fold.name} has no usable {side} clip: none has a face")
            statuses.update(sides[side].statuses)
        answered = _answers(folder, fold, clips, sides, spec, report)
        views.update(sides["test"].num_views())
        records = [by_id[clip_id] for clip_id in fold.test]
        for order in ORDERS:
            parts[order].append(scored_clips(records, answered[order], clips.labels, fold=fold.name))
    provenance = Provenance(
        model=name,
        front_end=front_end_of(spec.encoder),
        calibration=UNCALIBRATED,
        trained_on="the training side of each fold",
    )
    about = {
        "model": name,
        "encoder": "" if spec.entry.reads == "nothing" else spec.encoder,
        "test_clips_by_different_views": {str(n): views[n] for n in sorted(views)},
    }
    figures = write_scores(
        folder, join(parts["normal"]), provenance, statuses=statuses, about=about, further={"selection": "last"}
    )
    others = {order: evaluate_clips(join(parts[order])).uar for order in ORDERS[1:]}
    unused = unused_clips(statuses, statuses)
    write_json(folder / "order.json", {"normal": figures["uar"], **others, "unused": unused})


def _answers(
    folder: Path,
    fold: Fold,
    clips: LabelledClips,
    sides: Mapping[str, TokenDataset],
    spec: TrainingSpec,
    report: ReportProgress,
) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Class probabilities of the test clips in every order of time, from the disk or from a training."""
    state, test = folder / "state" / fold.name, sides["test"]
    ids = list(dict.fromkeys(test.clip_ids))
    if not (state / _ANSWERS).is_file():
        stage = f"{spec.model}, seed {spec.seed}, fold {fold.name}"
        fitted: Fitted = fit(sides["train"], spec, state=state, stage=stage, on_progress=report)
        checkpoint = fitted.save(
            folder / "checkpoints" / fold.name,
            f"{clips.name}, training side of fold {fold.name} ({len(set(sides['train'].clip_ids))} clips)",
            fold=fold.name,
            selection="last",
            **clips.about,
        )
        # The captions are those of the clips; frames in another order keep them.
        test = captioned_for(checkpoint, test)
        found = {}
        for order in ORDERS:
            answered = score(checkpoint, in_order(test, order), device=spec.device).of_clips()
            found[order] = np.stack([answered[clip_id] for clip_id in ids])
        shutil.rmtree(state, ignore_errors=True)  # the state of an interrupted training
        with atomic_path(state / _ANSWERS) as temporary:
            save_file(found, temporary)
    return {order: dict(zip(ids, rows, strict=True)) for order, rows in load_file(state / _ANSWERS).items()}


def _write_tables(out: Path, run: BenchRun) -> Outcome:
    """Tables of every model that is finished in this folder, in the order of the list of models; after several seeds of a model comes their mean."""
    rows: dict[str, Mapping[str, Any]] = {}
    orders: dict[str, Mapping[str, float]] = {}
    models: dict[str, Mapping[str, Any]] = {}
    unused: dict[str, str] = {}
    warnings: list[str] = []
    for name, entry in MODELS.items():
        done = sorted(
            (path.parent for path in (out / name).glob("seed-*/order.json")), key=lambda f: natural_key(f.name)
        )
        for folder in done:
            title = name if len(done) == 1 else f"{name}, {folder.name.replace('-', ' ')}"
            kept = read_json(folder / "order.json")
            rows[title] = read_json(folder / "metrics.json")
            models[name] = {"what": entry.what, **rows[title]["model"]}
            orders[title] = {order: kept[order] for order in ORDERS}
            unused |= kept["unused"]
            warnings += rows[title]["warnings"]
        if len(done) > 1:
            title, titles = f"{name}, mean of {len(done)} seeds", list(rows)[-len(done) :]
            trained = [read_predictions(folder / "predictions.csv").scored() for folder in done]
            rows[title] = evaluate_seeds(trained).figures()
            models[name] = {**models[name], "seeds": rows[title]}
            orders[title] = {order: float(np.mean([orders[t][order] for t in titles])) for order in ORDERS}
    plans = {name: asdict(run.spec_of(name, 0).plan().training) for name in run.models}
    write_results(out, rows)
    write_text(out / "order.md", order_table(orders))
    write_json(
        out / "bench.json",
        {"version": own_version(), "training": plans, "models": models, "order": orders, "unused": unused},
    )
    return Outcome(table=results_table(rows), unused=unused, warnings=tuple(dict.fromkeys(warnings)))


def order_table(orders: Mapping[str, Mapping[str, float]]) -> str:
    """UAR with the encoder's time steps in their order, in a random one and backwards (after the paper's Table 5, which shuffles frames)."""
    lines = [
        [name, f"{uars['normal']:.3f}", *(f"{uars[o]:.3f} ({uars[o] - uars['normal']:+.3f})" for o in ORDERS[1:])]
        for name, uars in orders.items()
    ]
    return markdown_rows(("model", "UAR, time steps in order", "random order", "reversed"), lines)
