"""Optical flow from each frame to the next: OpenCV's TV-L1, or DIS (fast, not the paper's), over
several processes."""

import collections
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import threading

import cv2
import numpy as np

METHODS = ("tvl1", "dis")
BOUND = 20  # pixels; larger displacements are clipped


def flow(before, after, method):
    """Displacement of each pixel from grey frame `before` to `after`, both (H, W) uint8, as
    (H, W, 2) uint8.

    Channel 0 is x (right positive), 1 is y (down positive). -20 to 20 pixels are spread over 0 to
    255, beyond is clipped; value / 127.5 - 1 is what the network takes.
    """
    moved = _estimator(method).calc(before, after, None)  # (H, W, 2) pixels
    return np.rint((np.clip(moved, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def with_flow(frames, method, pool, ahead):
    """Yields (frame, flow from it to the next frame) for each of `frames` (H, W, 3) uint8 RGB.

    The last frame has no next one: it takes the flow of the frame before it, in a video of one
    frame no motion. pool: an executor (`processes`); at most `ahead` pairs wait in it, so that
    memory does not depend on the length.
    """
    waiting = collections.deque()  # (frame, its flow to come)
    last = last_grey = latest = None
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if last is not None:
            waiting.append((last, pool.submit(flow, last_grey, grey, method)))
        if len(waiting) > ahead:
            image, future = waiting.popleft()
            latest = future.result()
            yield image, latest
        last, last_grey = frame, grey
    for image, future in waiting:
        latest = future.result()
        yield image, latest
    if last is not None:
        yield last, np.full((*last.shape[:2], 2), 128, np.uint8) if latest is None else latest


@contextlib.contextmanager
def processes(jobs):
    """An executor of `jobs` processes, which end with the block, or when this process is killed."""
    before = multiprocessing.active_children()
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _begin
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()).difference(before):
            process.terminate()  # a pair takes up to half a minute


def _begin():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


@functools.cache
def _estimator(method):
    """TV-L1 with OpenCV's defaults, or DIS at its medium preset."""
    if method == "tvl1":
        return cv2.optflow.DualTVL1OpticalFlow_create()
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
