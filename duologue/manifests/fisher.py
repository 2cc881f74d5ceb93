"""Fisher English (LDC2004S13, LDC2004T19, LDC2005S13, LDC2005T19) becomes a manifest of recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from duologue.errors import explained
from duologue.formats.audio import AudioInfo
from duologue.formats.card import Card
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.audio_files import check_two, probed
from duologue.manifests.fisher_known import bad_calls, known_bytes
from duologue.manifests.fisher_tables import Facts, read_tables
from duologue.manifests.fisher_transcript import MAX_BYTES, Transcript, read_transcript
from duologue.manifests.fisher_tree import Call, Tree, find_fisher
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.splits import SplitPlan, Splits, plan_splits
from duologue.progress import Watch

SOURCE = "fisher"
LICENCE = "LicenseRef-LDC-User-Agreement"


def write_fisher(
    roots: Sequence[str], out: Path, *, splits: Splits | None = None, split_by: str = "conversation"
) -> Card:
    """Write a manifest of the calls of Fisher English below the roots.

    Every call that has audio, a transcript or both is an input. Without audio it is a reject (`no_audio`), without a
    transcript a recording without turns. Side A is channel 0, B channel 1. Of audio that is found twice, the longest
    that can be read counts; of transcripts, the largest; of equals, the first by path.

    The card's totals count the calls with `audio_and_transcript`, `audio_only`, `transcript_only`, `neither` (those
    that only the tables know), and those of which something was `found_twice`; `splits` is the plan's summary.

    Args:
        roots: directories that hold audio, transcripts and tables, in any tree.
        out: the directory to write.
        splits: shares of train, valid and test; 98:1:1 if None.
        split_by: "conversation", "speaker" (by PIN), or a list file; see `plan_splits`.

    Raises:
        UserError: a root is missing, a table is damaged as a whole, the calls cannot be split, or none can be used.
    """
    tree = find_fisher(roots)
    facts, damaged = read_tables(tree)
    usable = (number for number, call in tree.calls.items() if call.audio and number not in bad_calls())
    plan = plan_splits(
        ((_id(number), [pin and _speaker(pin) for pin in facts.get(number, Facts()).pins]) for number in usable),
        split_by,
        splits or Splits(),
    )
    config = {
        "source": SOURCE,
        "licence": LICENCE,
        "splits": plan.identity,
        "known_defects": hashlib.sha256(known_bytes()).hexdigest(),
        **tree.identity(),
    }

    def read() -> Iterator[Recording | Reject]:
        yield from damaged
        with Watch("manifest fisher", len(tree.calls), "calls") as watch:
            for number, call in tree.calls.items():
                try:
                    yield from _recording(number, call, facts.get(number, Facts()), tree.root, plan)
                except Unusable as error:
                    yield error.reject(_id(number), "manifest")
                watch.advance()

    totals = {**_counts(tree, facts), "splits": plan.summary}
    return write_manifest(out, "recordings", config, read, root=tree.root, totals=totals)


def _id(number: str) -> str:
    return f"fe_03_{number}"


def _speaker(pin: str) -> str:
    return f"fisher:{pin}"


def _counts(tree: Tree, facts: Mapping[str, Facts]) -> dict[str, int]:
    calls = tree.calls.values()
    return {
        "audio_and_transcript": sum(bool(call.audio and call.transcripts) for call in calls),
        "audio_only": sum(not call.transcripts for call in calls),
        "transcript_only": sum(not call.audio for call in calls),
        "neither": sum(number not in tree.calls for number in facts),
        "found_twice": sum(max(len(call.audio), len(call.transcripts)) > 1 for call in calls),
    }


def _recording(number: str, call: Call, facts: Facts, root: Path, plan: SplitPlan) -> Iterator[Recording | Reject]:
    """Yield the recording, and a reject for each row of its transcript that is left out.

    Raises:
        Unusable: the call cannot be used.
    """
    id = _id(number)
    if number in bad_calls():
        raise Unusable("known_bad", bad_calls()[number])
    path, info = _best_audio(call, id, root)
    split = plan.of(id)
    transcript = _transcript(call, number, info.duration_s)
    about = {
        **facts.about,
        "transcriber": transcript.transcriber,
        "audio_copies": str(len(call.audio)) if len(call.audio) > 1 else "",
        "transcript_copies": str(len(call.transcripts)) if len(call.transcripts) > 1 else "",
    }
    first, second = (_speaker(pin) if pin else f"{id}:{channel}" for channel, pin in enumerate(facts.pins))
    name = path.relative_to(root).as_posix()
    yield Recording(
        id,
        SOURCE,
        split,
        LICENCE,
        info.duration_s,
        (AudioChannel(name, 0), AudioChannel(name, 1)),
        (first, second),
        transcript.turns,
        {name: value for name, value in about.items() if value},
    )
    for row, error in transcript.rejects:
        yield error.reject(id, "manifest", row)


def _best_audio(call: Call, id: str, root: Path) -> tuple[Path, AudioInfo]:
    if not call.audio:
        raise Unusable("no_audio", f"there is a transcript, and no audio called {id}")
    best: tuple[Path, AudioInfo] | None = None
    refusals: list[Unusable] = []
    for path in call.audio:
        try:
            info = probed(path, root)
            check_two(info, path)
        except Unusable as error:
            refusals.append(error)
            continue
        if best is None or info.duration_s > best[1].duration_s:
            best = path, info
    if best is None:
        raise refusals[0]
    return best


def _transcript(call: Call, number: str, duration_s: float) -> Transcript:
    if not call.transcripts:
        return Transcript((), (), "")
    # Of the largest, max takes the first.
    path = max(call.transcripts, key=_size)
    with explained(path, "reading"), path.open("rb") as file:
        return read_transcript(file.read(MAX_BYTES + 1), number, duration_s)


def _size(path: Path) -> int:
    with explained(path, "reading"):
        return path.stat().st_size
