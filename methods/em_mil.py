"""EM-MIL as a method: the network of model.py, trained by em_trainer.py, localized by Sec. 3.5."""

from dataclasses import dataclass

import torch

import em_trainer
import localize
from methods.attention import AttentionEStep, AttentionMStep, attention_scores
from methods.stream_labels import StreamEStep, StreamMStep
from model import EMMIL


@dataclass(frozen=True)
class Settings:
    """How EM-MIL is trained, by the names of the options in opts.py."""

    phases: tuple  # rows (step, epochs, lr, targets)
    gamma: float
    keep_peak: bool
    rgb_weight: float
    objective: str  # "pseudo-labels" or "attention" (Table 3's Alternating)
    joint: str  # "step": an "EM" phase makes its labels in every step, else in every epoch
    videos_per_step: int
    labels: str = "fused"  # or "stream", see methods/stream_labels.py


class EMMILMethod(EMMIL):
    name, title, classifies = "em-mil", "EM-MIL", False
    Settings = Settings

    def __init__(self, rgb_dim, flow_dim, n_classes, settings):
        super().__init__(rgb_dim, flow_dim, n_classes, settings.rgb_weight)
        self.settings = settings
        self.phases = [em_trainer.Phase(*row) for row in settings.phases]
        self.epochs = sum(phase.epochs for phase in self.phases)

    def fit(self, train_set, run, bar=None):
        s = self.settings
        if s.objective == "attention":
            steps = {"E": AttentionEStep(self), "M": AttentionMStep(self)}
        else:
            e_step, m_step = em_trainer.EStep, em_trainer.MStep
            if s.labels == "stream":
                e_step, m_step = StreamEStep, StreamMStep
            steps = {"E": e_step(self), "M": m_step(self, s.gamma, s.keep_peak)}
        em_trainer.fit(
            steps, train_set, run, self.phases, per_step=s.videos_per_step, refresh=s.joint, bar=bar
        )

    @torch.no_grad()
    def scores(self, rgb, flow):
        """q (T,) and p (T, C), each in [0, 1]."""
        if self.settings.objective == "attention":
            return attention_scores(self, rgb, flow)
        scores = self(rgb, flow)
        return {"q": scores.q, "p": scores.p}

    levels = staticmethod(localize.levels)

    @classmethod
    def curves(cls, record, rule):
        """Eq. 9: L = lambda * Q + (1 - lambda) * P, (T, C)."""
        scores = record.scores[cls.name]
        return localize.fuse(scores["q"], scores["p"], rule.lam)

    @classmethod
    def localize(cls, record, classes, video_scores, rule):
        """Sec. 3.5: the runs of L above its threshold, of each class that passes the gate."""
        return localize.detect(record, cls.curves(record, rule), video_scores, classes, rule)
