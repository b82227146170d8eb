"""--evaluate: localize and score again from a run's stored clip scores, with other options."""

import dataclasses

import opts
from formats import detections
from formats.names import match_names
from formats.program import log
from jobs import results, setup
from report import tables


def evaluate(command):
    """--evaluate RUN: tables of a finished run, or of a prediction, under other options of the
    test; returns its results. What the run has left out stays out.
    """
    run, excluded = command.evaluate, command.given.get("exclude_video", ())
    old, scored = results.read(run)
    asked = {name: value for name, value in command.given.items() if name != "exclude_video"}
    o = opts.at_test("evaluate", asked, old, run)
    already = match_names(old.exclude_video, excluded).values()
    more = [name for name in excluded if name not in already]
    o = dataclasses.replace(o, exclude_video=(*old.exclude_video, *more))
    log.info(setup.option_lines(o, scored.made["phases"], scored.made["processes"]))
    if command.dry_run:
        return None
    scored = _without(scored, more, o.ambiguous if "ambiguous" in command.given else None)
    differs = opts.in_words(o, opts.changed(old, o, *opts.GROUPS)).values()
    place = results.place_of(command, scored.run, ["evaluate", *differs])
    with results.new_folder(place) as folder:
        title = ", ".join([f"{o.dataset}, seed {o.seed}", *differs])
        found = results.finish(o, scored, folder, title, command.export, command.per_class)
        tables.write_json(folder / "opts.json", dataclasses.asdict(o))
    results.say_where(place)
    return found


def _without(scored, left_out, path):
    """What is scored but for these videos, with the Ambiguous segments of a file, if there is
    one.
    """
    known = list(dict.fromkeys([*(one.name for one in scored.records), *scored.truth["video"]]))
    left_out = setup.excluded(left_out, known)
    kept = [name for name in known if name not in left_out]
    forgiven = scored.ambiguous if path is None else setup.read_ambiguous(path)
    return dataclasses.replace(
        scored,
        records=[one for one in scored.records if one.name not in left_out],
        truth=scored.truth[~scored.truth["video"].isin(left_out)].reset_index(drop=True),
        ambiguous=detections.ambiguous_in(kept, forgiven, path),
    )
