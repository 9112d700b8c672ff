#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""amalgamate.py ROOT OUTPUT: all of the CPU library in one header.

In it are the umbrella header and every other one that needs no library beside zlib: what includes nlohmann-json, stb or
Eigen, itself or by another header, is left out. A header goes in once, where it is first included. The kernels' .inl
files go in at every place that includes them: they are compiled for each instruction set, in a namespace of its own.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
SYSTEM = re.compile(r'\s*#\s*include\s*<([^>]+)>')
OTHER_LIBRARIES = ("nlohmann/", "stb", "Eigen/", "CLI/")


class Amalgamation:
    def __init__(self, root):
        self.places = [root / "include", root / "kernels"]
        self.heavy_known = {}
        self.done = set()
        self.lines = []

    def headers(self):
        return sorted(str(path.relative_to(place)) for place in self.places for path in place.rglob("*.hpp"))

    def read(self, name):
        for place in self.places:
            if (place / name).is_file():
                return (place / name).read_text(encoding="utf-8").splitlines()
        raise SystemExit(f"amalgamate: {name} is included and is no file of Pavise")

    def heavy(self, name):
        """Whether a header needs another library."""
        if name not in self.heavy_known:
            self.heavy_known[name] = False
            for line in self.read(name):
                own, system = INCLUDE.match(line), SYSTEM.match(line)
                if (system and system[1].startswith(OTHER_LIBRARIES)) or (own and self.heavy(own[1])):
                    self.heavy_known[name] = True
        return self.heavy_known[name]

    def add(self, name):
        if name.endswith(".hpp"):
            if name in self.done:
                return
            self.done.add(name)
        self.lines.append(f"// --- {name}")
        for line in self.read(name):
            if line.startswith("// SPDX-License-Identifier") or line.strip() == "#pragma once":
                continue
            own = INCLUDE.match(line)
            if own:
                self.add(own[1])
            else:
                self.lines.append(line)


def main(root, output):
    a = Amalgamation(root)
    version = re.search(r'kVersion = "([^"]+)"', "\n".join(a.read("pavise/core/version.hpp")))[1]
    a.add("pavise/pavise.hpp")
    for name in a.headers():
        if not a.heavy(name):
            a.add(name)
    licence = (root / "LICENSE").read_text(encoding="utf-8").rstrip().splitlines()
    head = ["// SPDX-License-Identifier: MIT",
            f"// Pavise {version}, the CPU library in one header, made by tests/packaging/amalgamate.py. Needs zlib (-lz).", "//"]
    head += [("// " + line).rstrip() for line in licence] + ["#pragma once"]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(head + a.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]))
