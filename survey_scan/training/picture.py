"""The history of a training as one picture."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

#: Of Okabe & Ito's colours, which the colour-blind tell apart.
BLUE, RED, GREY = "#0072B2", "#D55E00", "#666666"


def draw(history: Sequence[Mapping[str, float]]) -> bytes:
    """Draw losses, what was measured, and the learning rate, epoch by epoch.

    Parameters
    ----------
    history : sequence of mapping
        One an epoch, as :class:`survey_scan.training.fit.Progress` has them.

    Returns
    -------
    bytes
        A PNG; the same history gives the same bytes.
    """
    figure = Figure(figsize=(15, 4.4), dpi=110, layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    best = min(history, key=lambda entry: entry["validation_loss"])
    mark = "." if len(epochs) < 40 else ""
    panels = (
        ("loss", [("loss", "training", BLUE, "-"), ("validation_loss", "validation", RED, "-")], "log"),
        (
            "validation",
            [
                ("auc", "AUC", BLUE, "-"),
                ("tpr_1pct", "TPR at 1 % FPR", RED, "-"),
                ("tpr0", "TPR before the first false positive", GREY, "--"),
            ],
            "linear",
        ),
        ("learning rate", [("rate", "at the epoch's end", GREY, "-")], "log"),
    )
    for axes, (title, lines, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        for name, label, colour, style in lines:
            axes.plot(epochs, [entry[name] for entry in history], style, marker=mark, color=colour, label=label)
        axes.axvline(best["epoch"], color=GREY, lw=0.8, ls=":", label=f"kept: epoch {int(best['epoch'])}")
        axes.set(xlabel="epoch", title=title, yscale=scale)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
