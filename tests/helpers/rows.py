"""Tables of segments, a row each."""

import pandas as pd

SEGMENT = ["video", "t_start", "t_end", "label"]


def ground_truth(*rows):
    return pd.DataFrame(rows, columns=SEGMENT)


def detections(*rows):
    return pd.DataFrame(rows, columns=[*SEGMENT, "score"])
