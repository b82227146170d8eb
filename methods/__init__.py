"""The methods: EM-MIL and what it is compared with and gated by (Sec. 3.5, Tables 1 to 3).

A method is a network (nn.Module) with
    name, title         on the command line and in files; in tables; both unique
    classifies          whether its scores have "video" (C,), which sum to 1: which classes a video
                        holds
    Settings            dataclass of the options it needs, by their names in opts.py
    __init__(rgb_dim, flow_dim, n_classes, settings)
                        a dimension is None for a stream that the set lacks
    epochs              how often `bar.update` is called in `fit`
    fit(train_set, run, bar)
                        engine.loop.TrainingSet, engine.run_folder.RunFolder; the stage given to
                        `run.epochs` and `run.log` begins with `name`, a log record has stage,
                        epoch, loss, seconds; bar may be None. Without training: `for _ in
                        run.epochs(self.name, 0): pass`, which makes the checkpoint
    scores(rgb, flow)   {key: tensor} of one video, (T,), (T, C) or (C,), without gradients
    localize(record, classes, video_scores, rule)
                        a class method: (rows, counts) as localize.detect. record is a
                        formats.clip_scores.Record: record.scores[name] is what `scores` returned,
                        as NumPy; record.snippet_seconds, clip_seconds say where its clips lie
    curves(record, rule), levels(curves, rule)
                        class methods: what `localize` thresholds, (T, C), and the thresholds,
                        (n, C), for the page; without them it shows detections and no curves
To add one: a file beside this one, and its line in METHODS.
"""

from methods.em_mil import EMMILMethod
from methods.untrimmednet import UntrimmedNet
from methods.wtalc import WTALC

METHODS = {method.name: method for method in (EMMILMethod, UntrimmedNet, WTALC)}
