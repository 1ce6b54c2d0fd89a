"""Models strips of layers on decoupled cores: python -m tools.strips baselines/strips.json [--networks NAME ...]

What the file has of the same recipe stays, unless a search finds a better placement: a study goes on where it was
stopped. The table of ``docs/strips.md`` is written anew. CIFAR-10's test images are in OFFRAMP_DATA.
"""

import argparse
import json
import re
from dataclasses import asdict
from datetime import date
from pathlib import Path

from offramp.files.result_file import provenance, read_json, write_json
from tools.strips.study import CONFIG, MACHINES, Recipe, Studied
from tools.strips.table import MARKS, tables

NETWORKS = ("resnet8-w20", "resnet8-w10", "zoo:resnet8-lean", "zoo:resnet8-sparse")
PAGE = Path(__file__).parents[2] / "docs" / "strips.md"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path)
parser.add_argument("--networks", nargs="*", default=NETWORKS)
parser.add_argument("--machines", nargs="*", default=[*MACHINES])
parser.add_argument("--seeds", nargs="*", type=int, default=[0], help="a search with each that wasn't done before")
parser.add_argument("--measure", action="store_true", help="measure again what was found, too")
asked = parser.parse_args()
settings = json.loads(
    json.dumps(
        {
            "config": CONFIG.digest(),
            "recipe": asdict(Recipe()),
            "machines": {
                name: asdict(machine) | {"block_rams": machine.block_rams} for name, machine in MACHINES.items()
            },
        }
    )
)
recorded = read_json(asked.file) if asked.file.exists() else {}
same = bool(recorded) and all(recorded[key] == value for key, value in settings.items())
networks = recorded["networks"] if same else {}
for name in asked.networks:
    studied = None
    for machine in asked.machines:
        found = networks.get(name, {}).get("machines", {}).get(machine, {})
        before = found.get("searches", {})
        seeds = [number for number in asked.seeds if str(number) not in before]
        if not (seeds or (asked.measure and found)):
            continue
        if studied is None:
            studied = Studied(name, Recipe())
            networks.setdefault(name, {"machines": {}}).update(today=studied.today(), check=studied.check())
            print(name, networks[name]["today"], networks[name]["check"], flush=True)
        if seeds:
            new = studied.search(MACHINES[machine], seeds)
            searches = before | new["searches"]
            if not before or min(new["searches"].values()) < min(before.values()):
                found = new
            found["searches"] = searches
        found |= studied.measure(MACHINES[machine], found)
        networks[name]["machines"][machine] = found
        print(name, machine, {key: found[key] for key in ("bound", "share", "words_lacking", "searches")}, flush=True)
        written = {**provenance("strips", 0), "date": date.today().isoformat(), **settings, "networks": networks}
        write_json(asked.file, written)
begin, end = MARKS
shown = f"{begin}\n\n{tables(read_json(asked.file))}\n\n{end}"
PAGE.write_text(re.sub(f"(?s){begin}\n.*?{end}", lambda _: shown, PAGE.read_text()))
