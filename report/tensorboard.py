"""The log of a run as TensorBoard scalars, for people who look at many runs side by side."""

from collections import Counter

from formats.files import InputError

SCALARS = ("positive", "changed", "empty", "lr", "seconds")


def write_scalars(folder, log):
    """Writes records of log.jsonl (dicts) as TensorBoard events into `folder`.

    EM-MIL's losses become `em-mil/M loss rgb` and so on over its epochs, the losses of another
    stage `STAGE/loss NAME` over its epochs; what a record holds of SCALARS is named alike.
    """
    SummaryWriter = writer()
    epochs = Counter()
    with SummaryWriter(str(folder)) as events:
        for record in log:
            stage, step = (
                ("em-mil", f"{record['step']} ") if "phase" in record else (record["stage"], "")
            )
            epochs[stage] += 1
            for name, value in record["loss"].items():
                events.add_scalar(f"{stage}/{step}loss {name}", value, epochs[stage])
            for name in SCALARS:
                if record.get(name) is not None:
                    events.add_scalar(f"{stage}/{step}{name}", record[name], epochs[stage])


def writer():
    """The class that writes TensorBoard events. InputError where no package has one."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "--tensorboard: found no package tensorboard, expected it installed: "
                "pip install tensorboard"
            ) from None
    return SummaryWriter
