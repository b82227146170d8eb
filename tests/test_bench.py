"""What the benchmark compares must agree, or its ratio means nothing."""
import numpy as np

import bench
import eval_detection


def test_the_plain_loop_gives_the_evaluator_s_map():
    truth, found = bench.random_tables(60, 300, n_videos=8, n_classes=4)
    ours = eval_detection.evaluate(truth, found, bench.ACTIVITYNET_TIOUS).map
    np.testing.assert_allclose(bench.plain_activitynet_map(truth, found, bench.ACTIVITYNET_TIOUS), ours, atol=1e-12)
    assert ours[0] > 0.1 > ours[-1]
