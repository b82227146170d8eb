"""The pseudo-labels of EM-MIL: Eq. 3 (Sec. 3.1) for the E step, Eq. 5 (Sec. 3.2) for the M step.

Pure functions of one video: score tensors in, detached 0/1 tensors of the scores' dtype out. The
branch that gives the scores is frozen while the labels are in use, so the trainer calls these once
per phase and video.
"""

import torch


@torch.no_grad()
def key_instance_labels(p, y):
    """Eq. (3): z_hat[t] = 1 if any c with y[c] = 1 has P[t,c] > mean_t P[:,c], else 0.

    p: (T, C) fused classifier scores in [0, 1]; y: (C,) multi-hot video labels. Returns z_hat (T,).
    The comparison is strict, so a class whose score is constant over the video (T = 1 included)
    votes for no clip.
    """
    # A mean lies between min and max; rounding can put it just below a constant score, and every
    # clip would vote.
    mean = p.mean(dim=0).clamp(min=p.amin(dim=0), max=p.amax(dim=0))  # (C,)
    return ((p > mean) & (y > 0)).any(dim=1).to(p.dtype)  # (T,)


@torch.no_grad()
def class_labels(q, y, gamma, keep_peak=False):
    """Eq. (5): y_hat[t,c] = 1 if y[c] = 1 and Q[t] > mean(Q) + gamma * (max(Q) - min(Q)), else 0.

    q: (T,) fused assignment scores in [0, 1]; y: (C,) multi-hot video labels. Returns y_hat (T, C);
    classes that the video does not have are 0 on every clip. The threshold of Sec. 3.5 on L is the
    same formula: localize.threshold has it for NumPy, report/page.js for the page's sliders. Where
    no clip passes (constant Q, T = 1, a large gamma) the formula gives zeros for the positive
    classes too; `keep_peak=True` then keeps the first clip of largest Q.
    NOTE(paper): the paper has no such rescue, so it is off by default.
    """
    low, high = q.min(), q.max()
    chosen = q > q.mean().clamp(low, high) + gamma * (high - low)  # (T,); the clamp as in Eq. 3
    if keep_peak:
        # no index by a tensor, for which the host would wait for a GPU
        chosen |= (torch.arange(len(q), device=q.device) == q.argmax()) & ~chosen.any()
    return (chosen[:, None] & (y > 0)).to(q.dtype)  # (T, C)
