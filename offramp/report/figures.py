"""Plots of the report, as SVG text."""

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offramp.report.tables import NAMES

__all__ = ["cycle_distribution", "density_curve", "exit_curve", "layer_cycles", "methods_overview", "svg"]

#: Of all plots.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "offramp",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3a3f47",
    "xtick.color": "#3a3f47",
    "ytick.color": "#3a3f47",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
}
#: Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
_COLOURS = {
    "clean": "#0072b2",
    "fgsm": "#56b4e9",
    "pgd": "#e69f00",
    "adaptive": "#d55e00",
    "slowdown": "#cc79a7",
    "unpruned": "#6b7280",
}


def svg(figure: Figure) -> str:
    """A figure as SVG text for HTML; closes it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    whole = text.getvalue()
    return whole[whole.index("<svg") :]  # inside HTML the XML prologue is not allowed


def _axes(height: float) -> tuple[Figure, Axes]:
    return plt.subplots(figsize=(8.2, height))


def cycle_distribution(inputs: dict[str, dict[str, Any]]) -> str:
    """Share of images that need at most so many cycles, by kind of input."""
    with plt.rc_context(_STYLE):
        figure, axes = _axes(3.4)
        for name, found in inputs.items():
            cycles, images = found["distribution"]["cycles"], found["distribution"]["images"]
            total, share = 0, [0.0]
            for count in images:
                total += count
                share.append(100 * total / found["images"])
            style = "--" if name == "unpruned" else "-"
            axes.step(
                [cycles[0], *cycles], share, style, where="post", color=_COLOURS[name], label=NAMES[name], linewidth=1.8
            )
        axes.set_xlabel("cycles of an inference")
        axes.set_ylabel("images done, %")
        axes.set_ylim(0, 102)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)


def layer_cycles(layers: list[dict[str, Any]]) -> str:
    """Mean cycles of every layer, split into products at the limit and losses by cause."""
    causes = list(layers[0]["loss"])
    shades = ("#f0b37e", "#d98c5f", "#b8b0d8", "#9aa3ad", "#c9ced4", "#e3c567")
    with plt.rc_context(_STYLE):
        figure, axes = _axes(0.9 + 0.34 * len(layers))
        places = range(len(layers))
        left = [layer["limit"] for layer in layers]
        axes.barh(places, left, color="#0072b2", label="nonzero products / multipliers")
        for number, cause in enumerate(causes):
            lost = [layer["loss"][cause] for layer in layers]
            axes.barh(places, lost, left=left, color=shades[number % len(shades)], label=cause)
            left = [start + more for start, more in zip(left, lost, strict=True)]
        axes.set_yticks(list(places), [layer["name"] for layer in layers])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        for place, layer in zip(places, layers, strict=True):
            if layer["share_of_limit"] is not None:
                axes.annotate(
                    f"{100 * layer['share_of_limit']:.0f} %",
                    (layer["cycles"], place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                )
        axes.set_xlabel("cycles, mean over the images that reach the layer; % = share of the nonzero-product limit")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)


def exit_curve(curve: dict[str, list[float]], threshold: float) -> str:
    """Accuracy and exit share on validation data against the exit threshold."""
    with plt.rc_context(_STYLE):
        figure, axes = _axes(3.2)
        accuracy = [100 * value for value in curve["accuracy"]]
        share = [100 * value for value in curve["exit_share"]]
        axes.plot(curve["thresholds"], accuracy, color=_COLOURS["clean"], linewidth=1.8, label="accuracy")
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.grid(visible=False)
        other.plot(curve["thresholds"], share, color=_COLOURS["adaptive"], linewidth=1.8, label="leave early")
        axes.axvline(threshold, color="#3a3f47", linewidth=1, linestyle=":", label="chosen")
        axes.set_xlabel("exit threshold: margin of the branch's two largest logits")
        axes.set_ylabel("accuracy, %")
        other.set_ylabel("images that leave early, %")
        other.set_ylim(0, 103)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        lines = [*axes.get_lines(), *other.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="center left", bbox_to_anchor=(1.12, 0.5))
        return svg(figure)


def density_curve(points: list[dict[str, float]]) -> str:
    """Cycles over the density of weights, a line for each density of activations, the limits dashed."""
    colours = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#6b7280")
    with plt.rc_context(_STYLE):
        figure, axes = _axes(3.8)
        for number, active in enumerate(dict.fromkeys(point["activations"] for point in points)):
            line = [point for point in points if point["activations"] == active]
            colour = colours[number % len(colours)]
            densities = [point["weights"] for point in line]
            axes.plot(
                densities,
                [point["cycles"] for point in line],
                color=colour,
                marker="o",
                label=f"{100 * active:.0f} % of activations",
            )
            axes.plot(densities, [point["limit"] for point in line], color=colour, linestyle="--", linewidth=1)
        axes.plot([], [], color="#6b7280", linestyle="--", linewidth=1, label="limit: nonzero products / multipliers")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("share of weights that are not zero")
        axes.set_ylabel("cycles of an inference")
        axes.legend()
        return svg(figure)


def methods_overview(found: dict[str, Any]) -> str:
    """Accuracy over products of the zoo's networks, and how many claims of each method hold, as SVG text."""
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
        for entry in found["networks"]:
            place = (100 * entry["products_share"], 100 * entry["accuracy_int8"])
            left.plot(*place, "o", color="#0072b2")
            left.annotate(entry["name"], place, xytext=(4, 4), textcoords="offset points", fontsize=8)
        left.set_xlabel("products, % of the dense network's")
        left.set_ylabel("accuracy int8, %")
        results = found["methods"].values()
        names = [f"{name}, {result['dataset']}" for name, result in found["methods"].items()]
        held = [sum(check["holds"] for check in result["checks"]) for result in results]
        every = [len(result["checks"]) for result in results]
        right.barh(names, every, color="#e6e8eb", label="tried")
        right.barh(names, held, color="#0072b2", label="hold here")
        right.set_xlabel("claims")
        if names:
            right.legend()
        return svg(figure)
